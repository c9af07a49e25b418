"""Small helpers without any knowledge of events: argument checks, masking, texts of exceptions, threads, forks."""
