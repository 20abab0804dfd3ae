"""The lab: an embedded cloud. One rule: nothing is imported here, so that the keeper of the machines stays slim."""
