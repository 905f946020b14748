"""What a sequence over more ranks than were measured would take: a cost model, and what it is worth. No torch."""
