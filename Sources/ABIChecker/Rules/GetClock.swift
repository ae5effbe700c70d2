internal import PVClock

extension Rule {
  static let getclockNoVCPUFlags = Rule(
    "GETCLOCK-NOVCPU-FLAGS",
    "Before a VM's first vCPU runs, and before it has any, KVM_GET_CLOCK works, returns no flags, and 0 in every other "
      + "field: today KVM decides for the master clock when a vCPU first runs.",
    source: "arch/x86/kvm/x86.c, get_kvmclock(), kvm_track_tsc_matching()",
    method:
      "KVM_GET_CLOCK into a structure full of 0xa5: after KVM_CREATE_VM, and after KVM_CREATE_VCPU.",
    scenarios: [.clockStart],
    faults: ["a history with KVM_CLOCK_TSC_STABLE or a host_tsc before the first vCPU ran"]
  ) { timeline in
    var findings = Findings()
    var vcpus = 0
    var withVCPUs = 0
    var isFresh = false
    for event in timeline.history.events {
      switch (event.action, event.actor) {
      case (.vmCreated, _): (isFresh, vcpus) = (true, 0)
      case (.vcpuCreated, _): vcpus += 1
      case (.setClock, _), (_, .vcpu): isFresh = false
      case (.getClock(let record), _) where isFresh:
        withVCPUs += vcpus > 0 ? 1 : 0
        findings.expect(
          record.flags == 0 && record.isOtherwiseZero, at: [event],
          "flags, realtime, host_tsc and reserved words 0, with \(vcpus) vCPUs that never ran",
          seen: record.description)
      default: continue
      }
    }
    guard withVCPUs > 0 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "KVM_GET_CLOCK with vCPUs that never ran", in: timeline)
    }
    return findings.outcome(
      atLeast: 4, "results of KVM_GET_CLOCK before a vCPU ran", in: timeline)
  }

  static let getclockFields = Rule(
    "GETCLOCK-FIELDS",
    "Where KVM_GET_CLOCK sets KVM_CLOCK_REALTIME, realtime is the host's CLOCK_REALTIME during the call, and with "
      + "KVM_CLOCK_HOST_TSC host_tsc is the host's TSC during the call; without its flag a field is 0. No flag is outside "
      + "KVM_CAP_ADJUST_CLOCK, and reserved words are 0.",
    source: "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK; Linux c68dc1b577ea (5.16)",
    method:
      "CLOCK_REALTIME before and after a KVM_GET_CLOCK into a structure full of 0xa5; the TSC from its own bracket. If "
      + "CLOCK_REALTIME was stepped meanwhile, nothing is said of realtime.",
    scenarios: [.getClock], everywhere: true, since: "5.16",
    faults: [
      "get_kvmclock(): realtime holds the monotonic clock (a history with another realtime)",
      "a host_tsc from before the call", "a field without its flag",
      "a reserved word left as it was",
    ]
  ) { timeline in
    var findings = Findings()
    var counted = (realtime: 0, tsc: 0)
    let capability = timeline.clockFlagsCapability
    for (index, event) in timeline.history.events.enumerated() {
      guard case .getClock(let record) = event.action else { continue }
      findings.expect(
        record.hasOnlyFlaggedFields, at: [event],
        "0 in each field without its flag, and in the reserved words", seen: record.description)
      if let capability {
        let allowed = capability <= 1 ? 0 : UInt32(capability)
        findings.expect(
          record.flags & ~allowed == 0, at: [event],
          "flags within KVM_CAP_ADJUST_CLOCK, \(Hex(allowed))", seen: record.description)
      }
      if record.hasHostTSC {
        counted.tsc += 1
        findings.expect(
          event.began.tsc <= record.hostTSC && record.hostTSC <= event.ended.tsc, at: [event],
          "host_tsc in [\(event.began.tsc), \(event.ended.tsc)], the TSC before and after the call",
          seen: "\(record.hostTSC)")
      }
      guard record.hasRealtime, let real = timeline.realtime(around: index) else { continue }
      let seen = findings.observed
      findings.expectRealtime(
        record.realtime, real, at: event, "realtime, counted from CLOCK_REALTIME before the call,")
      counted.realtime += findings.observed - seen
    }
    guard counted.realtime >= 4 && counted.tsc >= 4 || !findings.violations.isEmpty else {
      let flags = capability.map { "KVM_CAP_ADJUST_CLOCK is \($0), and " } ?? ""
      findings.lacks(
        "\(flags)KVM_GET_CLOCK returned \(counted.realtime) realtimes between two readings of "
          + "CLOCK_REALTIME and \(counted.tsc) host_tsc")
      return findings.outcome(atLeast: .max, "fields of KVM_GET_CLOCK", in: timeline)
    }
    return findings.outcome(
      "facts of KVM_GET_CLOCK, \(counted.realtime) realtimes and \(counted.tsc) host_tsc among them",
      in: timeline)
  }

  static let getclockNonMasterFields = Rule(
    "GETCLOCK-NONMASTER-FIELDS",
    "Outside master-clock mode KVM_GET_CLOCK returns no flags and 0 in every field but clock.",
    source: "arch/x86/kvm/x86.c, get_kvmclock()",
    method:
      "The boot vCPU registers through the old MSR; KVM_GET_CLOCK into a structure full of 0xa5.",
    scenarios: [.getClockNoMaster], everywhere: true,
    faults: ["a history with a realtime and its flag but no KVM_CLOCK_TSC_STABLE"]
  ) { timeline in
    var findings = Findings()
    for event in timeline.history.events {
      guard case .getClock(let record) = event.action, !record.isTSCStable else { continue }
      findings.expect(
        record.flags == 0 && record.isOtherwiseZero, at: [event],
        "flags, realtime, host_tsc and reserved words 0 without KVM_CLOCK_TSC_STABLE",
        seen: record.description)
    }
    return findings.outcome(
      atLeast: 8, "results of KVM_GET_CLOCK without the master clock", in: timeline)
  }

  static let getclockMono = Rule(
    "GETCLOCK-MONO",
    "Between two KVM_SET_CLOCK, KVM_GET_CLOCK never returns less than it did before: on one thread, on several, and "
      + "while vCPUs run.",
    source: "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK (\"the current timestamp\")",
    method:
      "Two threads call it thousands of times and hold each other to the newest result; and every two results in a row. "
      + "Where the master clock may have taken a new pair between, the step that this may make is allowed.",
    scenarios: [.getClock, .getClockNoMaster], everywhere: true,
    faults: ["a history with a step back of 1 ns", "a thread behind another one"]
  ) { timeline in
    var findings = Findings()
    var calls: UInt64 = 0
    for event in timeline.history.events {
      guard case .clockCalls(let run) = event.action else { continue }
      let slack = timeline.mayHaveNewPair(from: event, to: event) ? timeline.rounding : 0
      calls = calls.addingReportingOverflow(run.calls).partialValue
      findings.expect(
        run.backwards == 0 || Int128(run.worst) >= -slack, at: [event],
        "no step back in \(run.calls) calls on \(run.threads) threads",
        seen: "\(run.backwards) steps back, the worst by \(nanoseconds(-Int128(run.worst))): "
          + "\(run.worstBefore) ns, then \(run.worstAfter) ns")
    }
    let clocks = timeline.observations.filter { $0.vcpu == nil }
    for (before, after) in zip(clocks, clocks.dropFirst()) where before.epoch == after.epoch {
      let isExact =
        before.isStable == after.isStable
        && (!after.isStable || !timeline.mayHaveNewPair(from: before.event, to: after.event))
      let slack = isExact ? 0 : timeline.drift(until: after) + timeline.rounding
      let step = difference(after.value, before.value)
      findings.expect(
        step >= -slack, at: [before.event, after.event],
        "KVM_GET_CLOCK at \(before.value) ns or above (less \(nanoseconds(slack)))",
        seen: "\(after.value) ns, a step of \(nanoseconds(step))")
    }
    guard calls >= 2000 || !findings.violations.isEmpty else {
      return .notTested(reason: "only \(calls) calls without pause, needs 2000")
    }
    return findings.outcome("runs and pairs of KVM_GET_CLOCK, \(calls) calls in runs", in: timeline)
  }

  static let getclockNonMasterIsRaw = Rule(
    "GETCLOCK-NONMASTER-IS-RAW",
    "Without KVM_CLOCK_TSC_STABLE, KVM_GET_CLOCK is CLOCK_MONOTONIC_RAW (with the time that the host was suspended) "
      + "plus a constant that only KVM_SET_CLOCK changes.",
    source:
      "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK (\"CLOCK_MONOTONIC plus a constant\"); Linux 53fafdbb8b21 (5.5)",
    method:
      "Each result without the flag against the first one: it has to advance by what CLOCK_MONOTONIC_RAW does, "
      + "whatever the VM did between.",
    scenarios: [.getClockNoMaster, .clockStart], everywhere: true,
    faults: [
      "get_kvmclock_base_ns(): a clock that NTP slews (a history whose clock gains 500 ppm)",
      "a constant that a change of the mode moves by 1 us",
    ]
  ) { timeline in
    var findings = Findings()
    var first: Observation?
    for clock in timeline.observations where clock.vcpu == nil && !clock.isStable {
      guard let before = first, before.epoch == clock.epoch else {
        first = clock
        continue
      }
      let elapsed = before.event.elapsed(to: clock.event)
      findings.expect(
        difference(clock.value, before.value),
        in: Interval(elapsed.lower - timeline.rounding, elapsed.upper + timeline.rounding),
        limit: Timeline.widestUseful, at: [before.event, clock.event],
        "KVM_GET_CLOCK to go on from \(before.value) ns by an amount",
        why: "the time that CLOCK_MONOTONIC_RAW counted")
    }
    return findings.outcome(
      atLeast: 8, "results of KVM_GET_CLOCK without the master clock", in: timeline)
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
