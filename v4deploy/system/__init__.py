"""The only place that runs short commands and reads the machine; also the recorder and the replayer."""
