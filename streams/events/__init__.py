"""The event and its forms: as callers see it, as it is stored, as CloudEvents."""
