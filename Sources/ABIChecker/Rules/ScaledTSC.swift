internal import PVClock

// A guest's TSC that counts at another rate than the host's.

extension Rule {
  static let scaledTSC: [Rule] = [
    .tscKHzKeepsTime, .tscKHzMigration, .scaledTSCCounts, .scaledMulshift, .scaledKeepsTime,
    .scaledChangeKeepsTime, .scaledMigration, .scaledGetclock,
  ]

  private static let setTSCKHz = Source.document(
    "Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ")
  private static let record = Source.document(
    "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (tsc_to_system_mul and tsc_shift convert the TSC)"
  )
  private static let setClock = Source.document(
    "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK")
  private static let migrate = Source.document(
    "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (how to migrate a VM)")
  private static let kept: [Coverage] = [
    .count(8, "advances of the clock"), .count(2, "values set"), .everyVCPU("vCPUs that read"),
    .observations(10, "advances of the clock and values set"),
  ]

  static let tscKHzKeepsTime = Rule(
    "TSCKHZ-KEEPS-TIME",
    "Whatever frequency KVM_SET_TSC_KHZ accepts, for a vCPU or for a VM, before the first entry or later: guests' readings and "
      + "KVM_GET_CLOCK advance with CLOCK_MONOTONIC_RAW, and go on from the value of KVM_SET_CLOCK.",
    sources: [setTSCKHz, setClock],
    method:
      "Set frequencies within the tolerance, above the host's and below it; two vCPUs read, KVM_GET_CLOCK, KVM_SET_CLOCK; the "
      + "same with frequencies that are set while the vCPU has a record, and with the VM's.",
    scenarios: [.scaledTSC],
    coverage: kept + [
      .different(2, "frequencies"), .each(["before its record", "with a record"], "vCPUs"),
    ]
  ) { timeline, findings in
    for stretch in timeline.tunedStretches {
      guard findings.expectKept(in: stretch, timeline) else { continue }
      findings.cover("\(stretch.kHz) kHz", of: "frequencies")
      findings.cover(stretch.hadRecord ? "with a record" : "before its record", of: "vCPUs")
    }
    // Where the TSC is scaled it is moved besides, which SCALED-CHANGE-KEEPS-TIME judges.
    guard timeline.lackOfScaling != nil else { return }
    for (move, _) in timeline.changes { findings.expectKept(over: move, timeline) }
  }

  static let tscKHzMigration = Rule(
    "TSCKHZ-MIGRATION",
    "A VM that goes on as a new one, with KVM_SET_TSC_KHZ on one of the two or on both, goes on from the clock that was saved, "
      + "at the same frequency and at another: a guest needs to know nothing of the host's TSC.",
    sources: [migrate, setClock, record],
    method:
      "Save a VM at the frequency that was set, or at the host's; in a new VM set that frequency, another one or none, write "
      + "IA32_TSC where that moves the guest's TSC, the system-time MSRs and the clock; each vCPU reads.",
    scenarios: [.scaledTSC],
    coverage: [
      .observations(8, "readings after a move"), .everyVCPU("vCPUs that read after a move"),
      .each(["the same", "another"], "frequencies after a move"),
    ]
  ) { timeline, findings in findings.expectMoved(in: timeline) { _, _ in true } }

  static let scaledTSCCounts = Rule(
    "SCALED-TSC-COUNTS",
    "On a host that scales the TSC, a guest's TSC counts at the frequency that KVM_SET_TSC_KHZ accepted, below the host's and "
      + "above it, for a vCPU and for a VM, before the first entry and later.",
    sources: [setTSCKHz],
    method:
      "The guest's TSC in two readings some milliseconds apart, against what CLOCK_MONOTONIC_RAW counted between them.",
    scenarios: [.scaledTSC],
    coverage: [
      .each(["below the host's", "above the host's"], "frequencies"),
      .each(["of a vCPU", "of a VM"], "settings"),
      .each(["before its record", "with a record"], "vCPUs"),
      .observations(6, "rates of guests' TSCs"),
    ], needs: [.tscScaling]
  ) { timeline, findings in
    if let lack = timeline.lackOfScaling { return findings.lacks(lack) }
    guard let host = timeline.history.header.host.tscKHz else { return }
    // A VM's own setting is newer than the scaling of vCPUs.
    if timeline.capability("KVM_CAP_VM_TSC_CONTROL") == 0 {
      findings.cover("of a VM", of: "settings")
    }
    for stretch in timeline.tunedStretches where stretch.isFar(from: host) {
      guard let rate = timeline.measuredRate(of: stretch) else { continue }
      let isSeen = rate.contains(Int128(stretch.kHz))
      guard !isSeen || !rate.contains(Int128(host)) else {
        findings.cannotTell(
          "vcpu\(stretch.vcpu)'s TSC counts at \(rate.lower) to \(rate.upper) kHz: \(stretch.kHz), or the host's \(host)"
        )
        continue
      }
      findings.expect(
        isSeen, at: [stretch.set],
        "vcpu\(stretch.vcpu)'s TSC to count at \(stretch.kHz) kHz, which KVM_SET_TSC_KHZ accepted",
        seen: "\(rate.lower) to \(rate.upper) kHz; the host's counts at \(host)")
      findings.cover(
        stretch.kHz < host ? "below the host's" : "above the host's", of: "frequencies")
      findings.cover(stretch.isOfVM ? "of a VM" : "of a vCPU", of: "settings")
      findings.cover(stretch.hadRecord ? "with a record" : "before its record", of: "vCPUs")
    }
  }

  static let scaledMulshift = Rule(
    "SCALED-MULSHIFT",
    "The record of a vCPU with a scaled TSC has tsc_to_system_mul and tsc_shift for the frequency at which its TSC counts, or for "
      + "one that is at most 1 kHz below it.",
    sources: [
      record,
      .implementation("arch/x86/kvm/x86.c, kvm_guest_time_update(), which counts in whole kHz"),
    ],
    method:
      "As for SCALED-TSC-COUNTS; compare the records in the readings with what kvm_get_time_scale() computes for that frequency "
      + "and for 1 kHz less.",
    scenarios: [.scaledTSC],
    coverage: [
      .observations(8, "records of vCPUs with a scaled TSC"), .everyVCPU("vCPUs with a scaled TSC"),
      .different(2, "frequencies"),
    ], needs: [.tscScaling]
  ) { timeline, findings in
    for stretch in findings.scaledStretches(of: timeline) {
      let range = (TSCScale(tscKHz: stretch.kHz), TSCScale(tscKHz: stretch.kHz - 1))
      for reading in stretch.readings {
        guard let page = reading.page else { continue }
        findings.expect(
          page.scale.lies(between: range), at: [stretch.set, reading.event],
          "tsc_to_system_mul \(Hex(range.0.multiplier)) to \(Hex(range.1.multiplier)) and tsc_shift \(range.0.shift) for "
            + "\(stretch.kHz) kHz, the rate of vcpu\(stretch.vcpu)'s TSC",
          seen:
            "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift)")
        findings.cover(vcpu: stretch.vcpu, of: "vCPUs with a scaled TSC")
        findings.cover("\(stretch.kHz) kHz", of: "frequencies")
      }
    }
  }

  static let scaledKeepsTime = Rule(
    "SCALED-KEEPS-TIME",
    "At a scaled rate guests' readings and KVM_GET_CLOCK advance with CLOCK_MONOTONIC_RAW, and go on from the value of "
      + "KVM_SET_CLOCK, as they do at the host's rate.",
    sources: [record, setClock],
    method:
      "As for TSCKHZ-KEEPS-TIME, where the guest's TSC was seen to count at the frequency set.",
    scenarios: [.scaledTSC], coverage: kept + [.different(2, "frequencies")], needs: [.tscScaling]
  ) { timeline, findings in
    for stretch in findings.scaledStretches(of: timeline)
    where findings.expectKept(in: stretch, timeline) {
      findings.cover("\(stretch.kHz) kHz", of: "frequencies")
    }
  }

  static let scaledChangeKeepsTime = Rule(
    "SCALED-CHANGE-KEEPS-TIME",
    "Where KVM_SET_TSC_KHZ changes the rate of a vCPU that has a record, the record that its guest reads after the next entry "
      + "fits the new rate: the clock carries on.",
    sources: [setTSCKHz, record],
    method:
      "Read, change the frequency, enter and read without another registration; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.scaledTSC],
    coverage: [
      .observations(2, "changes of the rate of a vCPU with a record"),
      .each(["to a scaled rate", "back to the host's"], "changes"),
    ], needs: [.tscScaling]
  ) { timeline, findings in
    let scaled = Set(findings.scaledStretches(of: timeline).map(\.set.number))
    for (move, previous) in timeline.changes {
      let isScaled = scaled.contains(move.event.number)
      guard isScaled || previous.map({ scaled.contains($0.number) }) ?? false,
        findings.expectKept(over: move, timeline)
      else { continue }
      findings.cover(isScaled ? "to a scaled rate" : "back to the host's", of: "changes")
    }
  }

  static let scaledMigration = Rule(
    "SCALED-MIGRATION",
    "A VM that goes on with a scaled TSC, on a host whose own TSC has another rate, or that had one before, goes on from the "
      + "clock that was saved.",
    sources: [migrate, setClock, record],
    method:
      "As for TSCKHZ-MIGRATION, where the guest's TSC was seen to count at the frequency set, before the move or after it.",
    scenarios: [.scaledTSC],
    coverage: [
      .observations(8, "readings after a move"), .everyVCPU("vCPUs that read after a move"),
      .each(["the same", "another"], "frequencies after a move"),
    ], needs: [.tscScaling]
  ) { timeline, findings in
    let scaled = Set(findings.scaledStretches(of: timeline).map(\.set.number))
    findings.expectMoved(in: timeline) { before, after in
      [before, after].contains { $0.map { scaled.contains($0.set.number) } ?? false }
    }
  }

  static let scaledGetclock = Rule(
    "SCALED-GETCLOCK-IS-GUEST-VIEW",
    "At a scaled rate, too, KVM_GET_CLOCK in master-clock mode equals every vCPU's record evaluated at the guest's TSC that belongs "
      + "to host_tsc, to a cycle of it.",
    sources: [
      .document(
        "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK (\"the exact kvmclock value seen by all VCPUs\")"
      )
    ],
    method:
      "As for GETCLOCK-IS-GUEST-VIEW. The guest's TSC is the host's times the ratio of the two frequencies, which a processor keeps "
      + "with 32 or 48 binary places, plus KVM_VCPU_TSC_OFFSET; every reading of the guest's confirms it.",
    scenarios: [.scaledTSC],
    coverage: [
      .observations(4, "results of KVM_GET_CLOCK, each against a record of a scaled TSC"),
      .everyVCPU("vCPUs whose record was evaluated"),
    ], needs: [.tscScaling, .masterClock, .clockDetails]
  ) { timeline, findings in
    guard let host = timeline.history.header.host.tscKHz else { return }
    for stretch in findings.scaledStretches(of: timeline) {
      for sight in stretch.sights(&findings) {
        let ratios = TSCRatio.possible(stretch.kHz, host: host).filter { ratio in
          stretch.readings.allSatisfy { ratio.fits($0, offset: sight.offset) }
        }
        let values = ratios.map { ratio in
          sight.page.systemTime(atTSC: ratio.scale(sight.record.hostTSC) &+ sight.offset)
        }
        let errors = values.map { difference(sight.record.clock, $0) }
        guard let error = errors.min(by: { abs($0) < abs($1) }) else {
          findings.lacks(
            "vcpu\(stretch.vcpu)'s TSC is not the host's times \(stretch.kHz)/\(host) plus the TSC offset"
          )
          continue
        }
        let cycle = 1_000_000 / Int128(stretch.kHz) + 1
        findings.expect(
          error, in: Interval(-cycle, cycle), at: [sight.before, sight.event, sight.after],
          "KVM_GET_CLOCK less vcpu\(stretch.vcpu)'s record at the guest's TSC of host_tsc",
          why:
            "both are the clock at one instant; a cycle at \(stretch.kHz) kHz is less than \(cycle) ns"
        )
        findings.cover(vcpu: stretch.vcpu, of: "vCPUs whose record was evaluated")
      }
    }
  }
}

extension TunedStretch {
  /// Not within any tolerance, so that a rate that is measured for some milliseconds tells the two apart.
  fileprivate func isFar(from host: UInt32) -> Bool {
    abs(Int128(kHz) - Int128(host)) * 8 > Int128(host)
  }

  /// The vCPU's readings, from records that were certainly made in this stretch.
  fileprivate var readings: [Observation] {
    steps.flatMap(\.observations).filter { $0.vcpu == vcpu }
  }

  /// `KVM_GET_CLOCK` between two looks at one record of this vCPU.
  fileprivate struct Sight {
    let event: Event
    let record: ClockRecord
    let page: ClockPage
    let offset: UInt64
    let before, after: Event
  }

  fileprivate func sights(_ findings: inout Findings) -> [Sight] {
    var found: [Sight] = []
    var offset: UInt64?
    var last: (event: Event, page: ClockPage, epoch: Int)?
    var waiting: [(event: Event, record: ClockRecord)] = []
    for step in steps {
      if TSCMoves.vcpu(movedBy: step.event) == vcpu { (offset, last, waiting) = (nil, nil, []) }
      switch step.event.action {
      case .tscOffset(vcpu, let cycles): offset = cycles
      case .getClock(let record):
        guard record.isTSCStable, record.hasHostTSC else {
          findings.lacks(
            "KVM_GET_CLOCK returned flags \(Hex(record.flags)): no master clock (2) or no host_tsc (8)"
          )
          continue
        }
        if last != nil { waiting.append((step.event, record)) }
      case .page(vcpu, let address, let page)
      where step.after.record == address.value && !step.after.isStale:
        if let before = last, before.page == page, before.epoch == step.machine.epoch,
          page.flags.contains(.tscStable), step.after.holdsNewestPair, let offset
        {
          found += waiting.map {
            Sight(
              event: $0.event, record: $0.record, page: page, offset: offset, before: before.event,
              after: step.event)
          }
        }
        (last, waiting) = ((step.event, page, step.machine.epoch), [])
      default: continue
      }
    }
    return found
  }
}

/// The guest's cycles for one of the host's, as a processor keeps it.
private struct TSCRatio {
  let factor: UInt64
  let places: UInt64

  /// AMD's and Intel's.
  static func possible(_ kHz: UInt32, host: UInt32) -> [TSCRatio] {
    guard host > 0 else { return [] }
    return [UInt64(32), 48].map { places in
      // At most 2^80, of a host's 1 kHz; no real one has more than 64 bits.
      let factor = (UInt128(kHz) << UInt128(places)) / UInt128(host)
      return TSCRatio(factor: UInt64(truncatingIfNeeded: factor), places: places)
    }
  }

  func scale(_ cycles: UInt64) -> UInt64 {
    UInt64(truncatingIfNeeded: (UInt128(cycles) * UInt128(factor)) >> UInt128(places))
  }

  /// Whether a guest may have read this at that time.
  func fits(_ reading: Observation, offset: UInt64) -> Bool {
    guard let tsc = reading.tsc else { return true }
    let (began, ended) = (reading.event.began.tsc, reading.event.ended.tsc)
    return difference(tsc, scale(began) &+ offset) >= -1
      && difference(scale(ended) &+ offset, tsc) >= -1
  }
}

extension TSCScale {
  /// Whether it is one of two scales, or lies between them with the same shift.
  fileprivate func lies(between ends: (TSCScale, TSCScale)) -> Bool {
    if self == ends.0 || self == ends.1 { return true }
    return ends.0.shift == ends.1.shift && shift == ends.0.shift
      && ends.0.multiplier <= multiplier && multiplier <= ends.1.multiplier
  }
}

extension Timeline {
  /// The changes of a frequency that a vCPU with a record read through, and the setting before, if there was one.
  fileprivate var changes: [(move: TSCMove, previous: Event?)] {
    let stretches = tunedStretches
    return tscMoves.compactMap { move in
      guard case .setTSCKHz(_, _, nil) = move.event.action else { return nil }
      let previous = stretches.last {
        $0.vcpu == move.vcpu && $0.set.number < move.event.number
          && $0.steps.contains { $0.event.number == move.before.event.number }
      }
      return (move, previous?.set)
    }
  }
}

extension Findings {
  /// The stretches in which the guest's TSC was seen to count at the frequency set.
  fileprivate mutating func scaledStretches(of timeline: Timeline) -> [TunedStretch] {
    if let lack = timeline.lackOfScaling {
      lacks(lack)
      return []
    }
    return timeline.tunedStretches.filter { $0.kHz > 1 && timeline.isScaled($0) }
  }

  /// From reading to reading, of the vCPU and of KVM_GET_CLOCK, the clock advances; and it goes on from each value set.
  ///
  /// - Returns: whether something counted.
  fileprivate mutating func expectKept(in stretch: TunedStretch, _ timeline: Timeline) -> Bool {
    var counted = false
    var last: Observation?
    for step in stretch.steps {
      for value in step.observations where value.vcpu == nil || value.vcpu == stretch.vcpu {
        defer { last = value }
        if let before = last, before.epoch == value.epoch {
          let counts = expectAdvance(from: before, to: value, over: [stretch.set], in: timeline)
          if counts, value.vcpu != nil { count("advances of the clock") }
          counted = counted || counts
        } else if let setting = step.machine.setting, setting.event.number > stretch.set.number,
          !setting.record.hasRealtime, value.vcpu != nil
        {
          let counts = expectValue(
            setting.record.clock, since: setting.event, at: value, in: timeline)
          if counts { count("values set") }
          counted = counted || counts
        }
        if counted { cover(vcpu: value.vcpu, of: "vCPUs that read") }
      }
    }
    return counted
  }

  /// - Returns: whether it counted.
  @discardableResult
  fileprivate mutating func expectKept(over move: TSCMove, _ timeline: Timeline) -> Bool {
    expectAdvance(
      from: move.before, to: move.after, over: [move.event], in: timeline,
      why: "the time that CLOCK_MONOTONIC_RAW counted; the record has to fit the TSC's new rate")
  }

  /// Each reading after a move goes on from the clock saved, if `counts` says so of the stretches that it was saved in and read in.
  fileprivate mutating func expectMoved(
    in timeline: Timeline, where counts: (TunedStretch?, TunedStretch?) -> Bool
  ) {
    let stretches = timeline.tunedStretches
    func stretch(of vcpu: Int, at index: Int) -> TunedStretch? {
      stretches.last { $0.vcpu == vcpu && $0.steps.contains { $0.index == index } }
    }
    for move in timeline.moves where !move.set.record.hasRealtime {
      for reading in move.after {
        guard let vcpu = reading.vcpu else { continue }
        let before = stretch(of: vcpu, at: move.saved.observation.index)
        let after = stretch(of: vcpu, at: reading.index)
        guard before != nil || after != nil, counts(before, after) else { continue }
        let isCounted = expect(
          difference(reading.value, move.saved.record.clock),
          in: timeline.allowedAdvance(since: move.set.event, at: reading),
          limit: Timeline.widestUseful,
          at: [move.saved.event, move.set.event, reading.event],
          "\(reading.name) less the clock saved (\(move.saved.record.clock) ns), "
            + "\(before.text) before the move and \(after.text) after it,",
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
        guard isCounted else { continue }
        cover(vcpu: vcpu, of: "vCPUs that read after a move")
        cover(
          before?.kHz == after?.kHz ? "the same" : "another", of: "frequencies after a move")
      }
    }
  }
}

extension TunedStretch? {
  fileprivate var text: String { map { "at \($0.kHz) kHz" } ?? "at the host's rate" }
}
