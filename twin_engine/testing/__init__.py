"""For people who write their own twins and stages: the laws, fake clocks, scripted sources."""
