"""Grafana's provisioning (data source, dashboards, alert rules) made from twin definitions: see ``provisioning.files``."""
