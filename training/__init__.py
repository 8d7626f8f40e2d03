"""Offline: collect, replay, fit, evaluate, report, and the loop through MLflow."""
