"""What operators, the sensor and the notifier do when they run; imported only then."""
