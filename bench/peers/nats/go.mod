module evensong/bench/peers/nats

go 1.26.0

require (
	evensong v0.0.0
	github.com/nats-io/nats.go v1.37.0
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0 // indirect
	github.com/klauspost/compress v1.17.2 // indirect
	github.com/nats-io/nkeys v0.4.7 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/crypto v0.18.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace evensong => ../../..
