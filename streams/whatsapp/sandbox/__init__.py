"""The sandbox server: speaks the Cloud API's shape on loopback, and sends nothing."""
