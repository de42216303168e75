"""Who gets which devices next: the broker, one pure function from a situation to grants, and the simulator that tries it in seconds."""
