"""From what a user wrote to what is stored: validates, creates, copies, edits and deletes trees."""
