"""When a second replica is asked, which one, and how its speech goes on where the first stopped."""
