extension Fault {
  /// Every fault, by topic.
  public static let all: [Fault] =
    discovery + registration + records + time + stopped + requests + wallClock + lifeCycle
    + scaledTSC + restoreState

  /// By the rule's id, what is wrong in the faults that must break it.
  public static let meanings: [String: [String]] = all.reduce(into: [:]) { meanings, fault in
    for rule in fault.rules { meanings[rule, default: []].append(fault.meaning) }
  }
}

extension GradedFault {
  public static let all: [GradedFault] = [
    GradedFault(
      id: "SKEW", rules: ["SYSTIME-GLOBAL-PAIR", "GETCLOCK-IS-GUEST-VIEW"],
      meaning: "vCPU 1's record is ahead", unit: "ns", sizes: [1_000_000, 10_000, 100, 10, 1],
      mustCatch: 100, tries: 1
    ) { deviation, size in
      deviation.record = { _, vcpu, _, record in
        if vcpu == 1 { record.systemTime &+= UInt64(size) }
      }
    },
    GradedFault(
      id: "RACE-SKEW", rules: ["MONO-CROSS-VCPU"],
      meaning: "vCPU 1's record is behind, seen by guests alone", unit: "ns",
      // From one CPU's cache to another's takes 60 to 150 ns: who reads so soon after another is chance.
      sizes: [10_000, 1000, 100, 10], mustCatch: 1000, tries: 5
    ) { deviation, size in
      deviation.record = { clock, vcpu, _, record in
        if vcpu == 1, clock.hasMasterClock { record.systemTime &-= UInt64(size) }
      }
    },
    GradedFault(
      id: "SYSTEM-TIME-OFF", rules: ["GETCLOCK-IS-GUEST-VIEW"],
      meaning: "system_time is too large in every record", unit: "ns",
      sizes: [10_000, 1000, 50, 10, 2], mustCatch: 50, tries: 1
    ) { deviation, size in
      deviation.record = { _, _, _, record in record.systemTime &+= UInt64(size) }
    },
    GradedFault(
      id: "TSC-TIMESTAMP-OFF", rules: ["GETCLOCK-IS-GUEST-VIEW"],
      meaning: "tsc_timestamp is too small in every record", unit: "ns",
      sizes: [10_000, 1000, 50, 10, 2], mustCatch: 50, tries: 1
    ) { deviation, size in
      deviation.record = { clock, _, _, record in
        record.tscTimestamp &-= UInt64(size) * UInt64(clock.time.tscKHz) / 1_000_000
      }
    },
    GradedFault(
      id: "RATE-OFF", rules: ["RATE-RAW"],
      meaning: "the whole clock runs fast, records and KVM_GET_CLOCK alike", unit: "ppb",
      sizes: [1_000_000, 1000, 300], mustCatch: 1000, tries: 1
    ) { deviation, size in
      deviation.entered = { clock, _ in
        guard clock.count(-1) == 1 else { return }
        let multiplier = UInt64(clock.scale.multiplier)
        clock.scale.multiplier += UInt32(multiplier * UInt64(size) / 1_000_000_000)
      }
    },
    GradedFault(
      id: "TORN-UPDATES", rules: ["VERSION-NO-TORN"],
      meaning: "so many of a million updates are torn", unit: "per million",
      sizes: [1_000_000, 100_000, 10_000, 1000], mustCatch: 1000, tries: 60
    ) { deviation, size in deviation = .torn(each: UInt64(1_000_000 / size)) },
    GradedFault(
      id: "WALL-OFF", rules: ["WALL-VALUE-EXACT"], meaning: "the wall clock is late", unit: "ns",
      // The interval is as wide as a call of KVM_GET_CLOCK, 0.7 us and more.
      sizes: [1_000_000_000, 1_000_000, 100_000, 10_000, 1000], mustCatch: 10_000, tries: 1
    ) { deviation, size in
      deviation.wallRecord = { _, _, record in record.move(by: Int64(size)) }
    },
  ]
}
