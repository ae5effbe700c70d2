internal import PVClock

extension Rule {
  static let time: [Rule] = [
    .clockBracket, .mulshiftExact, .mulshiftTSCKHz, .rateRaw, .monoVCPU, .systimeGlobalPair,
  ]

  static let clockBracket = Rule(
    "CLOCK-BRACKET",
    "A guest's reading lies between the KVM_GET_CLOCK before it and the one after it, on every vCPU.",
    sources: [.api("4.29 KVM_GET_CLOCK (\"the exact kvmclock value seen by all VCPUs\")")],
    method:
      "KVM_GET_CLOCK, a reading in the guest, KVM_GET_CLOCK. No slack in master-clock mode. Without it a record may run "
      + "ahead by the width of the entry that made it.",
    scenarios: [.registration], everywhere: true,
    coverage: [
      .observations(4, "readings between two KVM_GET_CLOCK"), .everyVCPU("vCPUs that read"),
    ]
  ) { timeline, findings in
    for bracketed in timeline.bracketedReadings where findings.expect(bracketed, in: timeline) {
      findings.cover(vcpu: bracketed.reading.vcpu, of: "vCPUs that read")
    }
  }

  static let clockBracketNonMaster = Rule(
    "CLOCK-BRACKET-NONMASTER",
    "Outside master-clock mode, too, a guest's reading lies between the KVM_GET_CLOCK before it and the one after it, on "
      + "every vCPU. The record may run ahead by the time between two reads of the host's clocks in the entry that made it.",
    sources: [.api("4.29 KVM_GET_CLOCK (\"KVM will try to make all VCPUs follow this clock\")")],
    method:
      "The boot vCPU on the old MSR, or a clocksource other than the TSC: KVM_GET_CLOCK, a reading, KVM_GET_CLOCK. The "
      + "reading may be ahead by the width of the entry that made the record, and off by the drift between the two "
      + "oscillators.",
    scenarios: [.getClockNoMaster], everywhere: true,
    coverage: [
      .observations(5, "readings between two KVM_GET_CLOCK without the master clock"),
      .everyVCPU("vCPUs that read"),
    ]
  ) { timeline, findings in
    for bracketed in timeline.bracketedReadings
    where !bracketed.before.isStable && !bracketed.reading.isStable && !bracketed.after.isStable {
      if findings.expect(bracketed, in: timeline) {
        findings.cover(vcpu: bracketed.reading.vcpu, of: "vCPUs that read")
      }
    }
  }

  static let mulshiftExact = Rule(
    "MULSHIFT-EXACT",
    "tsc_to_system_mul and tsc_shift are the pair that kvm_get_time_scale() computes from the vCPU's TSC frequency, to the "
      + "bit, and the multiplier is at least 2^31.",
    sources: [.x86("kvm_get_time_scale()")],
    method: "KVM_GET_TSC_KHZ of a fresh vCPU; compute the pair again.",
    scenarios: [.registration], everywhere: true,
    coverage: [
      .observations(2, "records of vCPUs whose TSC frequency is known"),
      .everyVCPU("vCPUs whose record was read"),
    ], inside: [.observations(2, "records of vCPUs whose TSC frequency is known")]
  ) { timeline, findings in
    findings.expectScaleOfSomeFrequency(in: timeline)
    for (event, vcpu, page, rate) in timeline.pagesOfKnownRate {
      let expected = TSCScale(tscKHz: rate)
      findings.expect(
        page.scale == expected && page.scale.isNormalized, at: [event],
        "tsc_to_system_mul \(Hex(expected.multiplier)) and tsc_shift \(expected.shift) for \(rate) kHz",
        seen: "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift)")
      findings.cover(vcpu: vcpu, of: "vCPUs whose record was read")
    }
  }

  static let mulshiftTSCKHz = Rule(
    "MULSHIFT-TSCKHZ",
    "A guest that derives the frequency of its TSC from the record, as Linux does at boot, gets the result of "
      + "KVM_GET_TSC_KHZ, to the last place that the record has.",
    sources: [
      .guest(
        "Linux: arch/x86/kernel/pvclock.c, pvclock_tsc_khz(); arch/x86/kernel/kvmclock.c, kvm_get_tsc_khz()"
      )
    ],
    method:
      "10^6 * 2^32 / tsc_to_system_mul, shifted by tsc_shift as the guest does it. A negative tsc_shift loses so many "
      + "binary places.",
    scenarios: [.registration], everywhere: true,
    coverage: [
      .observations(2, "records of vCPUs whose TSC frequency is known"),
      .everyVCPU("vCPUs whose record was read"),
    ], inside: [.observations(2, "records of vCPUs whose TSC frequency is known")]
  ) { timeline, findings in
    findings.needFrequency(in: timeline)
    for (event, vcpu, page, rate) in timeline.pagesOfKnownRate {
      let lost: Int128 = page.tscShift < 0 ? (1 << Int128(min(63, -Int(page.tscShift)))) - 1 : 0
      let allowed = Interval(Int128(rate) - max(1, lost), Int128(rate) + 1)
      let derived = page.scale.tscKHz.map { Int128($0) }
      findings.expect(
        derived.map(allowed.contains) ?? false, at: [event],
        "a TSC of \(allowed.lower) to \(allowed.upper) kHz by the record, \(rate) kHz by KVM_GET_TSC_KHZ",
        seen: derived.map { "\($0) kHz" } ?? "no frequency: the multiplier is 0")
      findings.cover(vcpu: vcpu, of: "vCPUs whose record was read")
    }
  }

  static let monoVCPU = Rule(
    "MONO-VCPU",
    "On one vCPU the clock never goes back, unless the host sets it.",
    sources: [
      .msr(
        "MSR_KVM_SYSTEM_TIME_NEW, field system_time (\"monotonic time\"), and flags "
          + "bit 0")
    ],
    method:
      "A million readings in a ring-3 loop, and every pair of readings that follow each other on a vCPU.",
    scenarios: [.schedclock], everywhere: true,
    coverage: [
      .observations(1, "loops and pairs of readings"),
      .count(100_000, "readings in loops with PVCLOCK_TSC_STABLE_BIT"),
    ], needs: [.masterClock],
    inside: [
      .observations(1, "loops and pairs of readings"),
      .count(100_000, "readings in loops with PVCLOCK_TSC_STABLE_BIT"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: [Int: Observation] = [:]
      for step in machine.steps {
        // Without bit 0 the clock is only near to monotonic. A loop during which the clock was set shows no observations:
        // the setting may have stepped it back.
        if case .looped(_, let result) = step.event.action, result.unstable == 0,
          !timeline.loopsOnOldRecords.contains(step.index), !step.observations.isEmpty
        {
          findings.count("readings in loops with PVCLOCK_TSC_STABLE_BIT", by: result.reads)
          findings.expect(
            result.backwards == 0, at: [step.event], "no step back in \(result.reads) readings",
            seen: describeSteps(result))
        }
        for reading in step.observations {
          guard let vcpu = reading.vcpu else { continue }
          if let before = last[vcpu], before.epoch == reading.epoch {
            findings.expectNoStepBack(from: before, to: reading, in: timeline)
          }
          last[vcpu] = reading
        }
      }
    }
    let looped = findings.counted["readings in loops with PVCLOCK_TSC_STABLE_BIT"] ?? 0
    findings.detail = "\(looped) readings in loops"
  }

  static let systimeGlobalPair = Rule(
    "SYSTIME-GLOBAL-PAIR",
    "In master-clock mode all vCPUs' records hold one pair: the same system_time, the same tsc_timestamp less each "
      + "vCPU's TSC offset, the same multiplier and shift.",
    sources: [
      .guest(
        "Linux, arch/x86/include/asm/vdso/gettimeofday.h, vread_pvclock(), which takes bit 0 to mean that all vCPUs' records are "
          + "the same"),
      .x86("comment above pvclock_update_vm_gtod_copy()"),
    ],
    method:
      "Read one vCPU's record, another vCPU's, and the first one's again. If the first one's two are the same, so is the "
      + "other.",
    scenarios: [.registration, .setClock],
    coverage: [
      .observations(1, "records of one vCPU between two equal ones of another"),
      .everyVCPU("vCPUs whose record was compared"),
    ], needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      let looks = machine.steps.compactMap(Look.init)
      for (first, (middle, last)) in zip(looks, zip(looks.dropFirst(), looks.dropFirst(2))) {
        guard first.vcpu == last.vcpu, first.vcpu != middle.vcpu,
          (first.offset == nil) == (middle.offset == nil), first.base == last.base
        else { continue }
        guard [first, middle, last].allSatisfy({ $0.page.flags.contains(.tscStable) }) else {
          findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
          continue
        }
        guard [first, middle, last].allSatisfy(\.isNewest) else {
          findings.lacks(
            "a vCPU was not entered after another one's first entry: its record may be old")
          continue
        }
        findings.expect(
          first.base == middle.base, at: [first.event, middle.event, last.event],
          "vcpu\(middle.vcpu)'s record less its TSC offset \(middle.offset ?? 0), as vcpu\(first.vcpu)'s: "
            + describe(first.base),
          seen: describe(middle.base))
        for vcpu in [first.vcpu, middle.vcpu] {
          findings.cover(vcpu: vcpu, of: "vCPUs whose record was compared")
        }
      }
    }
  }
}

/// The host's look at a vCPU's registered record.
private struct Look {
  var event: Event
  var vcpu: Int
  var page: ClockPage
  var offset: UInt64?
  var isNewest: Bool

  init?(_ step: Step) {
    guard case .page(let vcpu, let address, let page) = step.event.action,
      step.after.record == address.value
    else { return nil }
    (event, self.vcpu, self.page) = (step.event, vcpu, page)
    offset = step.after.tscOffset
    isNewest = step.after.holdsNewestPair && step.after.isTSCOffsetCertain
  }

  /// The record without what is the vCPU's own.
  var base: ClockPage {
    var base = page
    base.version = 0
    base.flags = []
    base.tscTimestamp &-= offset ?? 0
    return base
  }
}

/// A guest's reading, with the `KVM_GET_CLOCK` before it and the one after it.
private struct BracketedReading {
  var before, reading, after: Observation
}

extension Timeline {
  /// The readings between two `KVM_GET_CLOCK`, on one setting of the clock and apart in time.
  fileprivate var bracketedReadings: [BracketedReading] {
    var found: [BracketedReading] = []
    for machine in machines {
      var before: Observation?
      var waiting: [BracketedReading] = []
      for value in machine.steps.flatMap(\.observations) {
        guard value.vcpu == nil else {
          if let before, before.epoch == value.epoch,
            before.event.ended.raw <= value.event.began.raw
          {
            waiting.append(BracketedReading(before: before, reading: value, after: value))
          }
          continue
        }
        for reading in waiting
        where reading.reading.epoch == value.epoch
          && reading.reading.event.ended.raw <= value.event.began.raw
        {
          found.append(
            BracketedReading(before: reading.before, reading: reading.reading, after: value))
        }
        (before, waiting) = (value, [])
      }
    }
    return found
  }

  /// The records of vCPUs whose TSC frequency, in kHz, is known and was never set.
  fileprivate var pagesOfKnownRate: [(event: Event, vcpu: Int, page: ClockPage, kHz: UInt32)] {
    var known: [Int: [Int: UInt32]] = [:]
    for machine in machines {
      var kHz: [Int: UInt32] = [:]
      for step in machine.steps {
        if let vcpu = step.vcpu { kHz[vcpu] = step.after.tscKHz.flatMap { $0 > 0 ? $0 : nil } }
        known[step.event.number] = kHz
      }
    }
    return pages.compactMap { event, vcpu, page in
      known[event.number]?[vcpu].map { (event, vcpu, page, $0) }
    }
  }
}

extension Findings {
  /// - Returns: whether it counted.
  fileprivate mutating func expect(_ bracketed: BracketedReading, in timeline: Timeline) -> Bool {
    let (before, reading, after) = (bracketed.before, bracketed.reading, bracketed.after)
    let isExact =
      reading.isStable && !timeline.mayHaveNewPair(from: before.event, to: after.event)
    let slack = isExact ? 0 : timeline.drift(until: after) + timeline.rounding
    let passed = difference(after.value, before.value)
    guard passed >= -slack else {
      expect(
        false, at: [before.event, after.event],
        "KVM_GET_CLOCK at \(before.value) ns or above", seen: "\(after.value) ns after it")
      return false
    }
    return expect(
      difference(reading.value, before.value), in: Interval(-slack, passed + reading.lead + slack),
      limit: Timeline.widestUseful, at: [before.event, reading.event, after.event],
      "\(reading.name), counted from the KVM_GET_CLOCK before it,",
      why: "KVM_GET_CLOCK returned \(before.value) ns before and \(after.value) ns after")
  }
}
