"""What methods that train extra inner units of an MLP share."""
