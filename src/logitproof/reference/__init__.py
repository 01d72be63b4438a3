"""The reference opened up in this process: its parts, its noise, its planted bugs."""
