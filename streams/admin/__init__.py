"""What operators read and do, from dead letters to the reason why an event waits."""
