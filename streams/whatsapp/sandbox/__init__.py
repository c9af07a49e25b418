"""The sandbox server: a local imitation of the Cloud API that sends nothing."""
