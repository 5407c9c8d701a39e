"""Workers of schedules as processes, by a clock that is faster than real time and may be set back."""
