# The api image with a schema one step further: what an upgrade to the next release brings.
ARG API_IMAGE=localhost/bearloop-api:0.1.0
FROM ${API_IMAGE}
USER 0
COPY next_schema.py /tmp/next_schema.py
RUN ["python", "/tmp/next_schema.py"]
USER 10001
