"""Which data, how much of it, and whose answers; what data holds, and which draft vocabulary covers it."""
