"""An emulated Entra and Dataverse to try the broker on; shares no code with the stages."""
