"""The wire format of ``/v1/files``, as OpenAI's: the form of an upload, queries and answers."""
