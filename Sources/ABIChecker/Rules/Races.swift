internal import PVClock

// What vCPUs that run at the same time see of each other's clocks.

extension Rule {
  static let races: [Rule] = [
    .versionMono, .versionNoTorn, .monoCrossVCPU, .monoCrossNoStable, .vsyscallPage0,
    .oldMSRStormMono, .sharedPageSane, .hop, .readCost,
  ]

  static let monoCrossVCPU = Rule(
    "MONO-CROSS-VCPU",
    "With bit 0 set, readings that a lock puts in order never go back from one vCPU to another.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, flags bit 0 (\"time measures taken across multiple cpus are guaranteed to be "
      + "monotonic\")",
    method:
      "Two to four vCPUs race in ring 3: load the maximum published so far, then read the own record, publish. No slack.",
    scenarios: [.contend], faults: ["a history with a step back of 1 ns between two vCPUs"]
  ) { timeline in
    timeline.neverGoesBack("own record") { parts in
      parts.allSatisfy { $0.event.actor == .vcpu($0.owner) }
    }
  }

  static let vsyscallPage0 = Rule(
    "VSYSCALL-PAGE0-ON-VCPU1",
    "With bit 0 set, every vCPU may compute the time from vCPU 0's record, as a guest's vDSO does that maps no other.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, flags bit 0; arch/x86/entry/vdso, vread_pvclock()",
    method:
      "Two to four vCPUs race in ring 3, all from vCPU 0's record: none may fall behind the maximum published so far.",
    scenarios: [.contend],
    faults: ["a history in which vCPU 1 reads 1 ns less from vCPU 0's record"]
  ) { timeline in
    timeline.neverGoesBack("vcpu0's record") { parts in parts.allSatisfy { $0.owner == 0 } }
  }

  static let monoCrossNoStable = Rule(
    "MONO-CROSS-NOSTABLE",
    "Without bit 0 two vCPUs' clocks are apart by no more than it took to make their records.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, flags bit 0; arch/x86/kvm/x86.c, kvm_guest_time_update()",
    method:
      "vCPU 0 goes to the old MSR, and the race is run again. A record may run ahead by the entry in which it was made; "
      + "one that was made during the race, by the race.",
    scenarios: [.contend],
    faults: ["a history with a step back larger than the entries that made the records"]
  ) { timeline in
    var findings = Findings()
    var largest: Int64 = 0
    var shortage: String?
    for parts in timeline.races where parts.contains(where: { $0.result.unstable > 0 }) {
      guard parts.allSatisfy({ $0.event.actor == .vcpu($0.owner) }) else { continue }
      let worst = parts.map(\.result.worst).min() ?? 0
      let bound = parts.compactMap(timeline.lead).max() ?? 0
      findings.expect(
        Int128(worst), in: Interval(-bound, 0), limit: Timeline.widestUseful,
        at: parts.map(\.event),
        "the largest step back between vCPUs",
        why: "their records may run ahead by the entries in which they were made; "
          + parts.map { describeSteps($0.result) }.joined(separator: "; "))
      largest = min(largest, worst)
      shortage = shortage ?? parts.shortage(meeting: 1)
    }
    if findings.violations.isEmpty, let shortage { return timeline.tooLittle(shortage) }
    return findings.outcome(
      "races, the largest step back \(short(-Int128(largest)))", in: timeline, ofRace: true)
  }

  static let oldMSRStormMono = Rule(
    "OLDMSR-STORM-MONO",
    "While vCPU 0 writes the old MSR back to back, a vCPU's clock steps back by no more than it took to make the "
      + "record that it had.",
    source: "Linux 54750f2cf042 (4.0); arch/x86/kvm/x86.c, kvm_guest_time_update()",
    method:
      "vCPU 0 writes and reads 1000 times and times each write; vCPU 1 reads its own record meanwhile and keeps the "
      + "first and the last reading of each version.",
    scenarios: [.oldMSRStorm],
    faults: ["a history with a step back larger than the write before it took"]
  ) { timeline in
    var findings = Findings()
    var storm = Storm()
    for event in timeline.history.events {
      switch event.action {
      case .looped("rewriter", let result):
        storm.write(result)
        guard let excess = result.excess, result.unstable > 0 else { continue }
        let slack = share(timeline.rateBound, of: event.width) + timeline.rounding
        findings.expect(
          Int128(excess), in: Interval(0, slack), limit: 1_000_000, at: [event],
          "what a step back was more than the write before it took, in \(result.reads) writes",
          why: describeSteps(result))
      case .looped("sampler", let result): storm.read(result)
      case .watched("sampler", let owner, _, let result) where event.actor == .vcpu(owner):
        timeline.judgeSteps(in: result, of: event, &findings)
      default: continue
      }
    }
    return storm.outcome(of: findings, isStable: false, in: timeline)
  }

  static let sharedPageSane = Rule(
    "SHARED-PAGE-SANE",
    "Two vCPUs that register one address share a record: after whatever they did at the same time its version is even, "
      + "and it holds a time that one of them was given.",
    source: "arch/x86/kvm/x86.c, kvm_setup_guest_pvclock(); Documentation/virt/kvm/x86/msr.rst",
    method:
      "Both write the MSR 60 times side by side, six times over; look at the record at rest, then each writes and reads "
      + "alone. While both write nothing is asserted.",
    scenarios: [.sharedPage],
    faults: [
      "a history with an odd version at rest",
      "a history in which the record at rest is an hour off",
    ]
  ) { timeline in
    var findings = Findings()
    var writes: [Actor: UInt64] = [:]
    var storms: [Event] = []
    var rest: (event: Event, page: ClockPage)?
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .stormed(_, let count, let versions):
        let sum = writes[event.actor, default: 0].addingReportingOverflow(min(count, versions))
        writes[event.actor] = sum.partialValue
        storms.append(event)
        rest = nil
      case .page(_, _, let page) where !storms.isEmpty:
        findings.expect(
          page.version % 2 == 0, at: [event], "an even version at rest",
          seen: "version \(page.version)")
        rest = (event, page)
      case .read(_, _, let reading, settled: true):
        guard let look = rest else { continue }
        rest = nil
        timeline.judgeShared(look, storms, reading, index, &findings)
        storms = []
      default: continue
      }
    }
    if findings.violations.isEmpty, !writes.isEmpty,
      writes.count < 2 || writes.contains(where: { $0.value < 100 })
    {
      return timeline.tooLittle(
        "writes that moved the version: \(writes.values.sorted()), needs 100 by each of two")
    }
    return findings.outcome(
      atLeast: 6, "looks at a record that two vCPUs had written, and readings after", in: timeline)
  }

  static let hop = Rule(
    "HOP",
    "A vCPU whose thread goes from CPU to CPU keeps its time; in master-clock mode it keeps its record.",
    source: "arch/x86/kvm/x86.c, kvm_arch_vcpu_load()",
    method:
      "The thread is bound to another CPU before each reading, 50 times with the master clock and 50 times without.",
    scenarios: [.hop],
    faults: [
      "a history in which the clock steps at a move",
      "a history with a new pair in master-clock mode",
    ]
  ) { timeline in
    var findings = Findings()
    var cpus: Set<Int> = []
    for (before, move, after) in timeline.readings(around: {
      if case .moved(let vcpu, _) = $0.action { vcpu } else { nil }
    }) {
      guard case .moved(_, let cpu) = move.action, let old = before.page, let new = after.page
      else { continue }
      cpus.insert(cpu)
      findings.expect(
        difference(after.value, before.value),
        in: timeline.allowedAdvance(from: before, to: after), limit: Timeline.widestUseful,
        at: [before.event, move, after.event],
        "the clock on CPU \(cpu) to go on from \(before.value) ns by an amount",
        why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings")
      guard before.isStable, after.isStable,
        !timeline.mayHaveNewPair(from: before.event, to: after.event)
      else { continue }
      findings.expect(
        new.isUpdate(of: old), at: [before.event, move, after.event],
        "with PVCLOCK_TSC_STABLE_BIT the record as it was, but for the version: \(describe(old))",
        seen: describe(new))
    }
    guard cpus.count >= 2 || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, "moves to two CPUs", in: timeline)
    }
    return findings.outcome(
      atLeast: 80, "readings after moves between \(cpus.count) CPUs", in: timeline)
  }

  static let readCost = Rule(
    "READ-COST",
    "A reading of the clock is little more than RDTSC and a few loads.",
    source: "arch/x86/include/asm/pvclock.h, __pvclock_read_cycles()",
    method:
      "The least time of several rounds, in ring 3: version, RDTSC and fields, version, conversion to nanoseconds; and "
      + "beside it RDTSC and the same loads between the same two fences.",
    scenarios: [.readCost], isObservation: true
  ) { timeline in
    var kHz: [Actor: UInt32] = [:]
    for event in timeline.history.events {
      if case .tscKHz(let vcpu, let value) = event.action { kHz[.vcpu(vcpu)] = value }
      guard case .measured(let reads, let cycles, let bare) = event.action,
        let rate = kHz[event.actor], rate > 0, reads > 0, cycles > 0, bare > 0
      else { continue }
      let picoseconds = UInt128(cycles) * 1_000_000_000 / UInt128(rate) / UInt128(reads)
      let perSecond = UInt128(reads) * UInt128(rate) * 1000 / UInt128(cycles)
      let ratio = UInt128(cycles) * 100 / UInt128(bare)
      return .observed(
        value: "\(decimals(perSecond / 100_000, 1)) million readings a second, "
          + "\(decimals(picoseconds / 100, 1)) ns each, \(decimals(ratio, 2)) times RDTSC and the loads"
      )
    }
    return Findings().outcome("measurements", in: timeline)
  }
}

/// "12.34" of 1234 with two places.
private func decimals(_ value: UInt128, _ places: Int) -> String {
  let digits = String(value)
  let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
  return "\(padded.dropLast(places)).\(padded.suffix(places))"
}

extension ClockPage {
  /// The same record, whatever the version.
  fileprivate func isUpdate(of other: ClockPage) -> Bool {
    var same = self
    same.version = other.version
    return same == other
  }
}

extension Timeline {
  /// What a shared record at rest says of the time, against the reading of a vCPU that wrote the MSR alone after it;
  /// and that reading against the vCPU's reading before the storm.
  fileprivate func judgeShared(
    _ rest: (event: Event, page: ClockPage), _ storms: [Event], _ reading: Reading, _ index: Int,
    _ findings: inout Findings
  ) {
    let event = history.events[index]
    guard let at = observations.firstIndex(where: { $0.index == index }) else { return }
    let now = observations[at]
    if let before = observations[..<at].last(where: { $0.vcpu == now.vcpu }),
      before.epoch == now.epoch
    {
      findings.expect(
        difference(now.value, before.value), in: allowedAdvance(from: before, to: now),
        limit: Timeline.widestUseful, at: [before.event, event],
        "\(event.actor)'s clock to go on from \(before.value) ns by an amount",
        why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings")
    }
    // Without the master clock the vCPUs' TSCs may differ.
    guard rest.page.flags.contains(.tscStable), now.isStable else { return }
    let slack = rounding + (mayHaveNewPair(from: storms[0], to: event) ? drift(until: now) : 0)
    findings.expect(
      difference(rest.page.systemTime(atTSC: reading.tsc), now.value), in: Interval(-slack, slack),
      at: [rest.event, event],
      "what the record at rest said, less \(event.actor)'s reading \(now.value) ns,",
      why: "both come from the master clock; at rest: \(describe(rest.page))")
  }
}
