"""speakerguard: verifies speakers by voice, and measures how well that holds up."""
