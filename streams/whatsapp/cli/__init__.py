"""The commands of the application: ``streams whatsapp ...``."""
