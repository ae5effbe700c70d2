internal import PVClock

extension Rule {
  static let getclockNoVCPUFlags = Rule(
    "GETCLOCK-NOVCPU-FLAGS",
    "Before a VM's first vCPU runs, and before the VM has a vCPU, KVM_GET_CLOCK works, and returns no flags and 0 in "
      + "every field but clock: KVM decides on the master clock when a vCPU first runs.",
    sources: [.x86("get_kvmclock(), kvm_track_tsc_matching()")],
    method:
      "KVM_GET_CLOCK into a structure full of 0xa5, after KVM_CREATE_VM and after KVM_CREATE_VCPU.",
    scenarios: [.clockStart],
    coverage: [
      .count(1, "results with vCPUs that never ran"), .count(1, "results without a vCPU"),
      .count(1, "results with reserved words read"),
      .observations(4, "results of KVM_GET_CLOCK before a vCPU ran"),
    ]
  ) { timeline, findings in
    for step in timeline.steps {
      let machine = step.machine
      guard case .getClock(let record) = step.event.action, machine.creation != nil,
        !machine.hasEntered, machine.setting == nil
      else { continue }
      findings.count(
        machine.vcpus > 0 ? "results with vCPUs that never ran" : "results without a vCPU")
      findings.expectOnlyClock(
        record, at: step.event, "with \(machine.vcpus) vCPUs that never ran")
    }
  }

  static let getclockFields = Rule(
    "GETCLOCK-FIELDS",
    "Where KVM_GET_CLOCK sets KVM_CLOCK_REALTIME, realtime is the host's CLOCK_REALTIME during the call. Where it sets "
      + "KVM_CLOCK_HOST_TSC, host_tsc is the host's TSC during the call. Without its flag a field is 0. All flags are in "
      + "KVM_CAP_ADJUST_CLOCK, and reserved words are 0.",
    sources: [.api("4.29 KVM_GET_CLOCK"), .commit("Linux c68dc1b577ea (5.16)")],
    method:
      "Read CLOCK_REALTIME before and after KVM_GET_CLOCK, which fills a structure full of 0xa5. The call's own bracket "
      + "has the TSC. If CLOCK_REALTIME was stepped meanwhile, realtime is not judged.",
    scenarios: [.getClock], everywhere: true,
    coverage: [
      .observations(12, "facts of KVM_GET_CLOCK"),
      .count(4, "realtimes between two readings of CLOCK_REALTIME"), .count(4, "host_tsc"),
      .count(4, "results with reserved words read"),
      .count(4, "flags compared with KVM_CAP_ADJUST_CLOCK"),
    ], needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    let capability = timeline.clockFlagsCapability
    for (index, event) in timeline.history.events.enumerated() {
      guard case .getClock(let record) = event.action else { continue }
      findings.countReserved(record)
      findings.expect(
        record.hasOnlyFlaggedFields, at: [event],
        "0 in each field without its flag, and in the reserved words", seen: record.description)
      if let capability {
        findings.count("flags compared with KVM_CAP_ADJUST_CLOCK")
        let allowed = capability <= 1 ? 0 : UInt32(capability)
        findings.expect(
          record.flags & ~allowed == 0, at: [event],
          "flags within KVM_CAP_ADJUST_CLOCK, \(Hex(allowed))", seen: record.description)
      }
      if record.hasHostTSC {
        findings.count("host_tsc")
        findings.expect(
          event.began.tsc <= record.hostTSC && record.hostTSC <= event.ended.tsc, at: [event],
          "host_tsc in [\(event.began.tsc), \(event.ended.tsc)], the TSC before and after the call",
          seen: "\(record.hostTSC)")
      }
      guard record.hasRealtime, record.hasHostTSC else {
        findings.lacks(
          "KVM_GET_CLOCK returned flags \(Hex(record.flags)): no realtime (4) or no host_tsc (8)")
        continue
      }
      guard let real = timeline.realtime(around: index) else { continue }
      if findings.expectRealtime(
        record.realtime, real, at: event, "realtime, counted from CLOCK_REALTIME before the call,")
      {
        findings.count("realtimes between two readings of CLOCK_REALTIME")
      }
    }
  }

  static let getclockNonMasterFields = Rule(
    "GETCLOCK-NONMASTER-FIELDS",
    "Outside master-clock mode KVM_GET_CLOCK returns no flags and 0 in every field but clock.",
    sources: [.x86("get_kvmclock()")],
    method:
      "The boot vCPU registers through the old MSR; KVM_GET_CLOCK into a structure full of 0xa5.",
    scenarios: [.getClockNoMaster], everywhere: true,
    coverage: [
      .observations(8, "results of KVM_GET_CLOCK without the master clock"),
      .count(4, "results with reserved words read"),
    ]
  ) { timeline, findings in
    for event in timeline.history.events {
      guard case .getClock(let record) = event.action, !record.isTSCStable else { continue }
      findings.expectOnlyClock(record, at: event, "without KVM_CLOCK_TSC_STABLE")
    }
  }

  static let getclockMono = Rule(
    "GETCLOCK-MONO",
    "Between two KVM_SET_CLOCK, KVM_GET_CLOCK never returns less than it did before: on one thread, on several threads, "
      + "and while vCPUs run.",
    sources: [.api("4.29 KVM_GET_CLOCK (\"the current timestamp\")")],
    method:
      "Two threads call it thousands of times, each compared with the newest result of both; and every two results in a "
      + "row. Where KVM may have taken a new pair for the master clock between them, the step of that is allowed.",
    scenarios: [.getClock, .getClockNoMaster], everywhere: true,
    coverage: [
      .observations(2, "runs and pairs of KVM_GET_CLOCK"),
      .count(1000, "calls on several threads"), .count(1000, "calls while a vCPU ran"),
    ]
  ) { timeline, findings in
    var calls: UInt64 = 0
    for machine in timeline.machines {
      let entries = machine.steps.filter(\.isEntry).map(\.event)
      var last: Observation?
      for step in machine.steps {
        if case .clockCalls(let run) = step.event.action {
          let allowed =
            timeline.mayHaveNewPair(from: step.event, to: step.event)
            ? timeline.drift(from: step.machine.began, until: step.event) + timeline.rounding : 0
          findings.expect(
            run.backwards == 0 || Int128(run.worst) >= -allowed, at: [step.event],
            "no step back\(allowed > 0 ? " by more than \(nanoseconds(allowed))" : "") in "
              + "\(run.calls) calls on \(run.threads) threads",
            seen: "\(run.backwards) steps back, the worst by \(nanoseconds(-Int128(run.worst))): "
              + "\(run.worstBefore) ns, then \(run.worstAfter) ns")
          calls = calls.addingReportingOverflow(run.calls).partialValue
          if run.threads > 1 { findings.count("calls on several threads", by: run.calls) }
          if entries.contains(where: { $0.overlaps(step.event) }) {
            findings.count("calls while a vCPU ran", by: run.calls)
          }
        }
        for clock in step.observations where clock.vcpu == nil {
          defer { last = clock }
          guard let before = last, before.epoch == clock.epoch else { continue }
          // Outside master-clock mode it is CLOCK_MONOTONIC_RAW plus a constant: a new pair is no matter.
          let isExact =
            before.isStable == clock.isStable
            && (!clock.isStable || !timeline.mayHaveNewPair(from: before.event, to: clock.event))
          let slack = isExact ? 0 : timeline.drift(until: clock) + timeline.rounding
          findings.expectNoStepBack(
            of: "KVM_GET_CLOCK", from: before.value, to: clock.value, slack: slack,
            at: [before.event, clock.event])
        }
      }
    }
    findings.detail = "\(calls) calls in runs"
  }

  static let getclockNonMasterIsRaw = Rule(
    "GETCLOCK-NONMASTER-IS-RAW",
    "Without KVM_CLOCK_TSC_STABLE, KVM_GET_CLOCK is CLOCK_MONOTONIC_RAW plus the time that the host was suspended, plus a "
      + "constant that only KVM_SET_CLOCK changes.",
    sources: [
      .api("4.29 KVM_GET_CLOCK (\"simply CLOCK_MONOTONIC plus a constant offset\")"),
      .commit("Linux 53fafdbb8b21 (5.5), which makes it CLOCK_MONOTONIC_RAW"),
    ],
    method:
      "Compare each result without the flag with the first one since the clock was set: it advances by what "
      + "CLOCK_MONOTONIC_RAW counted.",
    scenarios: [.getClockNoMaster, .clockStart], everywhere: true,
    coverage: [.observations(8, "results of KVM_GET_CLOCK without the master clock")]
  ) { timeline, findings in
    for machine in timeline.machines {
      var first: Observation?
      for clock in machine.steps.flatMap(\.observations)
      where clock.vcpu == nil && !clock.isStable {
        guard let before = first, before.epoch == clock.epoch else {
          first = clock
          continue
        }
        let elapsed = before.event.elapsed(to: clock.event)
        findings.expect(
          difference(clock.value, before.value),
          in: Interval(elapsed.lower - timeline.rounding, elapsed.upper + timeline.rounding),
          limit: Timeline.widestUseful, at: [before.event, clock.event],
          "the advance of KVM_GET_CLOCK from \(before.value) ns",
          why: "the time that CLOCK_MONOTONIC_RAW counted")
      }
    }
  }
}

extension Findings {
  /// A result of `KVM_GET_CLOCK` that has nothing but the clock.
  fileprivate mutating func expectOnlyClock(
    _ record: ClockRecord, at event: Event, _ condition: String
  ) {
    countReserved(record)
    expect(
      record.flags == 0 && record.isOtherwiseZero, at: [event],
      "flags, realtime, host_tsc and reserved words 0 \(condition)", seen: record.description)
  }

  fileprivate mutating func countReserved(_ record: ClockRecord) {
    if record.reserved != nil { count("results with reserved words read") }
  }
}

extension Event {
  /// Whether part of one may have been at the time of the other.
  fileprivate func overlaps(_ other: Event) -> Bool {
    began.raw < other.ended.raw && other.began.raw < ended.raw
  }
}

extension ClockRecord {
  /// Whether all that is neither the clock nor the flags is 0.
  fileprivate var isOtherwiseZero: Bool { realtime == 0 && hostTSC == 0 && isReservedZero }

  fileprivate var hasOnlyFlaggedFields: Bool {
    (hasRealtime || realtime == 0) && (hasHostTSC || hostTSC == 0) && isReservedZero
  }

  private var isReservedZero: Bool { reserved?.allSatisfy { $0 == 0 } ?? true }

  /// Under the kernel's names.
  var description: String {
    let reserved = reserved.map { ", reserved words \($0.map { Hex($0).description })" } ?? ""
    return "clock \(clock), flags \(Hex(flags)), realtime \(realtime), host_tsc \(hostTSC)"
      + reserved
  }
}
