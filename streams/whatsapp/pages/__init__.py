"""Messages in the dashboard: pages, and operations of the API."""
