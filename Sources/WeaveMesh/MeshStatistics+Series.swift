extension MeshStatistics {
    /// One counter under the name that metrics systems know it by, in the manner of Prometheus: a family, perhaps a label
    /// that tells its members apart, and a number that only grows.
    public struct Series: Sendable, Equatable {
        /// Such as `weave_mesh_closes_total`.
        public var name: String
        /// What the family counts, for people.
        public var help: String
        /// Name and value of each label.
        public var labels: [Label]
        public var value: Int

        /// A label and its value.
        public struct Label: Sendable, Hashable {
            public var name: String
            public var value: String

            public init(_ name: String, _ value: String) {
                self.name = name
                self.value = value
            }
        }

        init(_ name: String, _ help: String, _ labels: [Label], _ value: Int) {
            self.name = "weave_mesh_\(name)_total"
            self.help = help
            self.labels = labels
            self.value = value
        }
    }

    /// All counters. Names, labels and order are the same at any time, whatever has happened; members of a family stand
    /// together.
    public var series: [Series] {
        let messages = "Number of messages of the mesh, heartbeats excepted."
        let bytes = "Bytes of payload of those messages."
        var all: [Series] = []
        for (direction, traffic) in [("received", received), ("sent", sent)] {
            all += traffic.kinds.map { kind, count in
                Series("messages", messages, [.init("direction", direction), .init("kind", kind)], count.messages)
            }
        }
        for (direction, traffic) in [("received", received), ("sent", sent)] {
            all += traffic.kinds.map { kind, count in
                Series("message_bytes", bytes, [.init("direction", direction), .init("kind", kind)], count.bytes)
            }
        }
        func family(_ name: String, _ help: String, _ label: String, _ members: [(String, Int)]) {
            all += members.map { Series(name, help, [.init(label, $0.0)], $0.1) }
        }
        family(
            "socket_bytes", "Bytes read from and taken by sockets.", "direction",
            [("received", socketBytesReceived), ("sent", socketBytesSent)])
        family(
            "connections", "Number of connections begun, and of those that were kept after the handshake.", "event",
            [
                ("accepted", connectionsAccepted), ("accept_failed", acceptsFailed), ("dialled", connectionsDialled),
                ("dial_failed", dialsFailed), ("kept", connectionsKept),
            ])
        family(
            "closes", "Number of connections ended, handshakes included.", "reason",
            MeshCloseReason.all.map { ($0.label, closes[$0] ?? 0) })
        family(
            "drops", "Number of messages that went no further.", "reason",
            [
                ("queue_full", droppedMessages), ("unknown_channel", droppedSurrogates), ("loop", loopedBroadcasts),
                ("no_route", unroutableUnicasts), ("relayed_error", relayedErrors),
            ])
        family(
            "merges", "Number of times something was merged into what was there.", "kind",
            [("topology_record", improvedRecords), ("waiting_gossip", mergedGossip)])
        family(
            "records", "Number of topology records that changed nothing.", "outcome",
            [("stale", staleRecords), ("refused", refusedRecords), ("forged", forgedRecords)])
        family(
            "summaries", "Number of summaries of a neighbour's topology.", "outcome",
            [("equal", equalSummaries), ("different", differentSummaries)])
        func single(_ name: String, _ help: String, _ value: Int) { all.append(Series(name, help, [], value)) }
        single("malformed_updates", "Number of topology updates that could not be read.", malformedUpdates)
        single("records_asked", "Number of topology records asked for.", recordsAsked)
        single("own_record_conflicts", "Number of records under our name by others.", ownRecordConflicts)
        single("deliveries", "Number of messages given to handlers.", deliveries)
        single("handler_errors", "Number of messages that handlers refused.", handlerErrors)
        single("suppressed_states", "Number of unchanged states not sent again.", suppressedStates)
        single("suppressed_lines", "Number of lines left out of the log.", suppressedLines)
        single("route_calculations", "Number of recalculations of the routes.", routeCalculations)
        single("collections", "Number of searches for unreachable peers.", collections)
        return all
    }
}

extension MeshTraffic {
    fileprivate var kinds: [(String, Count)] {
        [
            ("gossip", gossip), ("unicast", unicasts), ("broadcast", broadcasts), ("overlay_control", control),
            ("unknown", unknown),
        ]
    }
}
