"""What to spend on this query: encoder, features, predictor, calibration, decision rules, controller, bundle."""
