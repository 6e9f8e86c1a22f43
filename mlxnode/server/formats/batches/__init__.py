"""The wire format of ``/v1/batches``, as OpenAI's: the body of a batch, queries and answers."""
