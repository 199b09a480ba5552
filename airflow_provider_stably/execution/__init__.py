"""What operators and sensors do when they run. Imported only then: DAG parsing must not pay for it."""
