"""Where facts come from: endpoints with failover, subscriptions, decoding, reorganisations."""
