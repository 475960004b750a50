# Builds with BuildKit (Docker 23 or newer), Podman or Buildah:
#
#     docker build -t syncline .
#     docker run -p 4000:4000 -v syncline:/data -e SYNCLINE_JWT_SECRET=… syncline
#
# tests/container/prove.sh checks the rules of this file and runs the binary as this image would.

# Bookworm on purpose: its glibc (2.36) is older than that of the base below, so that the binary
# also runs on hosts of that age. The image has the C compiler that aws-lc-rs and mimalloc need;
# on x86-64 and arm64 they need no CMake, Go or bindgen.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# The registry and all compiled dependencies stay in caches between builds. Cargo tells a changed
# file by its time only, and a checkout may bring an older one: hence the touch.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    find protocol server -type f -exec touch {} + \
 && cargo build --release --locked --package syncline-server --bin syncline \
 && install -D target/release/syncline /root-of-image/syncline \
 && install -d -o 65532 -g 65532 -m 750 /root-of-image/data

# glibc, libgcc and CA certificates, and neither a shell nor a package manager. A static musl binary
# would fit an empty image, but aws-lc-rs and mimalloc would then need a musl C toolchain that the
# builder image lacks, and musl is the less trodden path for both. Debian 13, because Debian 12's
# distroless images were only kept for a year after it came out.
FROM gcr.io/distroless/cc-debian13:nonroot

ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Syncline" \
      org.opencontainers.image.description="Self-hosted backend for collaborative documents" \
      org.opencontainers.image.source="https://github.com/syncline/syncline" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --from=build --chown=0:0 --chmod=755 /root-of-image/syncline /syncline
# A new volume takes this owner over. A bind mount does not: chown it to 65532 on the host.
COPY --from=build --chown=65532:65532 /root-of-image/data /data

# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
ENV SYNCLINE_LISTEN=0.0.0.0:4000 SYNCLINE_DATA=/data
EXPOSE 4000
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["/syncline", "healthcheck"]
ENTRYPOINT ["/syncline"]
CMD ["serve"]
