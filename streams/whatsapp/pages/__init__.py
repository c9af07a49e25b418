"""What the dashboard shows of messages: pages, and operations of the API."""
