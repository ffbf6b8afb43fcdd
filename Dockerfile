# A static binary and nothing else. Data lives in /data, which the owner of the volume must let user 1000 write:
#
#   docker build -t myelin .
#   docker run -p 8008:8008 -v myelin-data:/data -e MYELIN_SERVER_NAME=example.org myelin
#   docker exec <container> /myelin admin create-user --admin alice

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/myelin ./cmd/myelin
# SQLite and uploads need a folder for temporary files, and volumes take the owner of the folder they cover.
RUN mkdir -p -m 1777 /out/tmp && mkdir -p -m 0700 /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=1000:1000 /out/data /data
COPY --from=build /out/tmp /tmp
COPY --from=build /out/myelin /myelin
USER 1000:1000
ENV MYELIN_DATA_DIR=/data MYELIN_LISTEN=:8008
EXPOSE 8008
VOLUME /data
ENTRYPOINT ["/myelin"]
CMD ["serve"]
