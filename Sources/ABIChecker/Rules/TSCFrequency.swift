internal import PVClock

// Section F of the catalogue: KVM_SET_TSC_KHZ.

extension Rule {
  static let tscFrequency: [Rule] = [
    .tscKHzRoundtrip, .tscKHzToleranceMul, .tscKHzFailNoChange, .tscKHzUpscale, .tscKHzVMScope,
  ]

  static let tscKHzRoundtrip = Rule(
    "TSCKHZ-ROUNDTRIP",
    "KVM_GET_TSC_KHZ returns the frequency that KVM_SET_TSC_KHZ accepted.",
    source: "Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ and 4.56 KVM_GET_TSC_KHZ",
    method: "Set frequencies up to 231 ppm from the host's, and twice the host's; get.",
    scenarios: [.tscFrequency],
    faults: ["KVM_GET_TSC_KHZ returns the host's frequency whatever was set"]
  ) { timeline in
    var findings = Findings()
    for (set, kHz, error, _, after) in timeline.tscFrequencies {
      guard error == nil, let after else { continue }
      findings.expect(
        after.kHz == kHz, at: [set, after.event], "KVM_GET_TSC_KHZ to return \(kHz) kHz",
        seen: "\(after.kHz) kHz")
    }
    return findings.outcome(atLeast: 4, "frequencies set and got", in: timeline)
  }

  static let tscKHzToleranceMul = Rule(
    "TSCKHZ-TOLERANCE-MUL",
    "A TSC frequency within tsc_tolerance_ppm of the host's is accepted without scaling: the guest's TSC goes on at the "
      + "host's rate, and multiplier and shift stay those of the host's frequency.",
    source: "arch/x86/kvm/x86.c, kvm_set_tsc_khz(), tsc_tolerance_ppm",
    method:
      "Set frequencies 100 and 231 ppm above and below the host's; the guest registers anew and reads; its TSC against the "
      + "host's, its record against the host's frequency.",
    scenarios: [.tscFrequency],
    faults: ["kvm_guest_time_update() makes multiplier and shift of the requested frequency"]
  ) { timeline in
    var findings = Findings()
    let tolerance = timeline.capability("tsc_tolerance_ppm").map { Int128($0) }
    for (set, kHz, error, before, after) in timeline.tscFrequencies {
      guard let tolerance, let host = timeline.history.header.host.tscKHz, before != nil else {
        findings.lacks("the module parameter tsc_tolerance_ppm can't be read")
        continue
      }
      // The kernel rounds the ends of the band to whole kHz.
      let off = abs(Int128(kHz) - Int128(host))
      guard (off + 1) * 1_000_000 <= tolerance * Int128(host) else {
        findings.lacks("\(kHz) kHz is not within tsc_tolerance_ppm, \(tolerance), of \(host) kHz")
        continue
      }
      findings.expect(
        error == nil, at: [set], "\(kHz) kHz to be accepted: the host's TSC runs at \(host) kHz",
        seen: "KVM_SET_TSC_KHZ failed with \(error?.description ?? "")")
      guard error == nil, after != nil else { continue }
      timeline.expectHostRate(of: host, after: set, asked: kHz, &findings)
    }
    return findings.outcome(
      atLeast: 8, "frequencies, and records and TSCs after them", in: timeline)
  }

  static let tscKHzFailNoChange = Rule(
    "TSCKHZ-FAIL-NOCHANGE",
    "A KVM_SET_TSC_KHZ that fails does not change what KVM_GET_TSC_KHZ returns.",
    source: "Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ",
    method: "Ask for half the host's frequency, which fails without TSC scaling; get.",
    scenarios: [.tscFrequency],
    faults: ["kvm_set_tsc_khz() assigns virtual_tsc_khz before it knows whether it can"]
  ) { timeline in
    var findings = Findings()
    for (set, kHz, error, before, after) in timeline.tscFrequencies {
      guard let before, let after else { continue }
      guard let error else {
        if kHz < before.kHz / 4 * 3 {
          findings.lacks("KVM_SET_TSC_KHZ accepted \(kHz) kHz: this host scales the TSC")
        }
        continue
      }
      findings.expect(
        after.kHz == before.kHz, at: [before.event, set, after.event],
        "\(before.kHz) kHz as before KVM_SET_TSC_KHZ to \(kHz) kHz, which failed with \(error)",
        seen: "\(after.kHz) kHz")
    }
    return findings.outcome("refused frequencies", in: timeline)
  }

  static let tscKHzUpscale = Rule(
    "TSCKHZ-UPSCALE",
    "A frequency above the host's that is accepted without TSC scaling is what the guest's TSC then runs at from entry "
      + "to entry, and kvmclock stays right.",
    source:
      "Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ; arch/x86/kvm/x86.c, kvm_guest_time_update(), tsc_catchup",
    method:
      "Ask for twice the host's frequency; the guest reads twice, some milliseconds apart; its TSC and its clock against "
      + "CLOCK_MONOTONIC_RAW.",
    scenarios: [.tscFrequency],
    faults: ["compute_guest_tsc() is given the snapshot's time, which stands still"]
  ) { timeline in
    guard timeline.capability("KVM_CAP_TSC_CONTROL") == 0 else {
      return .notTested(
        reason: timeline.capability("KVM_CAP_TSC_CONTROL").map {
          "this host scales the TSC: KVM_CAP_TSC_CONTROL is \($0)"
        } ?? timeline.lacking ?? "KVM_CAP_TSC_CONTROL was not asked for")
    }
    var findings = Findings()
    for (set, kHz, error, before, _) in timeline.tscFrequencies {
      guard let before, Int128(kHz) > Int128(before.kHz) * 5 / 4 else { continue }
      guard error == nil else {
        findings.lacks("KVM_SET_TSC_KHZ refused \(kHz) kHz: \(error?.description ?? "")")
        continue
      }
      timeline.expectUpscaled(to: kHz, after: set, &findings)
    }
    return findings.outcome(atLeast: 3, "rates of the TSC and advances of the clock", in: timeline)
  }

  static let tscKHzVMScope = Rule(
    "TSCKHZ-VM-SCOPE",
    "KVM_SET_TSC_KHZ of a VM sets the frequency of vCPUs made later, and fails once there is a vCPU.",
    source: "Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ; Linux dcbe5a466c12 (6.17)",
    method: "Set it on a VM without vCPUs, make one, get its frequency, set it on the VM again.",
    scenarios: [.tscFrequency], since: "6.17",
    faults: ["the VM's frequency can be set after a vCPU was made"]
  ) { timeline in
    var findings = Findings()
    guard let capability = timeline.capability("KVM_CAP_VM_TSC_CONTROL"), capability > 0 else {
      findings.lacks(
        "KVM_CAP_VM_TSC_CONTROL is \(timeline.capability("KVM_CAP_VM_TSC_CONTROL") ?? 0)")
      return findings.outcome("settings of a VM's TSC frequency", in: timeline)
    }
    var vcpus: Set<Int> = []
    var pending: (event: Event, kHz: UInt32)?
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated: (vcpus, pending) = ([], nil)
      case .vcpuCreated(let vcpu): vcpus.insert(vcpu)
      case .setTSCKHz(nil, let kHz, let error):
        let isLate = !vcpus.isEmpty
        findings.expect(
          (error != nil) == isLate, at: [event],
          "KVM_SET_TSC_KHZ of a VM \(isLate ? "with a vCPU to fail" : "without vCPUs to succeed")",
          seen: error.map { "it failed with \($0)" } ?? "it succeeded")
        if error == nil, !isLate { pending = (event, kHz) }
      case .tscKHz(let vcpu, let kHz):
        guard let (set, wanted) = pending else { continue }
        pending = nil
        findings.expect(
          kHz == wanted, at: [set, event], "vcpu\(vcpu)'s frequency to be \(wanted) kHz",
          seen: "\(kHz) kHz")
      default: continue
      }
    }
    return findings.outcome(atLeast: 3, "settings of a VM's TSC frequency", in: timeline)
  }
}

/// What KVM_GET_TSC_KHZ of a vCPU returned.
private struct Frequency {
  var event: Event
  var kHz: UInt32
}

extension Timeline {
  /// The value of a capability, or of a module's parameter.
  fileprivate func capability(_ name: String) -> Int32? {
    for event in history.events {
      if case .capability(name, let value) = event.action { return value }
    }
    return nil
  }

  /// Each KVM_SET_TSC_KHZ of a vCPU with the KVM_GET_TSC_KHZ before and after it.
  fileprivate var tscFrequencies:
    [(set: Event, kHz: UInt32, error: Errno?, before: Frequency?, after: Frequency?)]
  {
    var found: [(Event, UInt32, Errno?, Frequency?, Frequency?)] = []
    var last: [Int: Frequency] = [:]
    var open: [Int: Int] = [:]
    for event in history.events {
      switch event.action {
      case .vmCreated: (last, open) = ([:], [:])
      case .setTSCKHz(let vcpu?, let kHz, let error):
        open[vcpu] = found.count
        found.append((event, kHz, error, last[vcpu], nil))
        last[vcpu] = nil
      case .tscKHz(let vcpu, let kHz):
        let frequency = Frequency(event: event, kHz: kHz)
        if let at = open.removeValue(forKey: vcpu) { found[at].4 = frequency }
        last[vcpu] = frequency
      default: continue
      }
    }
    return found
  }

  /// The events from one on, until a vCPU's frequency is set again or another machine is made.
  private func span(after set: Event) -> (vcpu: Int, events: ArraySlice<Event>)? {
    guard case .setTSCKHz(let vcpu?, _, _) = set.action,
      let start = history.events.firstIndex(where: { $0 == set })
    else { return nil }
    let rest = history.events[(start + 1)...]
    let end = rest.firstIndex {
      switch $0.action {
      case .vmCreated, .setTSCKHz(vcpu, _, _): true
      default: false
      }
    }
    return (vcpu, rest[..<(end ?? rest.endIndex)])
  }

  /// The readings of records that were certainly made after a frequency was set.
  private func readings(after set: Event) -> [Observation] {
    guard let (vcpu, events) = span(after: set) else { return [] }
    return observations.filter { $0.vcpu == vcpu && events.indices.contains($0.index) }
  }

  fileprivate func expectHostRate(
    of host: UInt32, after set: Event, asked kHz: UInt32, _ findings: inout Findings
  ) {
    let readings = readings(after: set).filter { $0.tsc != nil }
    let expected = TSCScale(tscKHz: host)
    for reading in readings {
      guard let page = reading.page else { continue }
      findings.expect(
        page.scale == expected, at: [set, reading.event],
        "tsc_to_system_mul \(Hex(expected.multiplier)) and tsc_shift \(expected.shift) for the host's \(host) kHz, "
          + "not for the \(kHz) kHz asked for",
        seen: "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift)")
    }
    guard let first = readings.first, let last = readings.last, first.index < last.index else {
      return
    }
    let shift = TSCMove(
      vcpu: first.vcpu ?? 0, before: first, event: set, after: last, isAmidOthers: false
    ).shift
    guard let shift else { return }
    let elapsed = first.event.elapsed(to: last.event)
    findings.expect(
      shift.contains(0), at: [first.event, last.event],
      "the guest's TSC to go on at the host's rate for \(nanoseconds(elapsed.lower))",
      seen: "\(shift.lower) to \(shift.upper) cycles between the two")
  }

  fileprivate func expectUpscaled(
    to kHz: UInt32, after set: Event, _ findings: inout Findings
  ) {
    let readings = readings(after: set)
    for (before, after) in zip(readings, readings.dropFirst()) {
      findings.expect(
        difference(after.value, before.value), in: allowedAdvance(from: before, to: after),
        limit: Self.widestUseful, at: [set, before.event, after.event],
        "the clock to go on from \(nanoseconds(Int128(before.value))) by an amount",
        why: "the time that CLOCK_MONOTONIC_RAW counted")
    }
    guard let first = readings.first, let last = readings.last, first.index < last.index,
      let from = first.tsc, let to = last.tsc
    else { return }
    let elapsed = first.event.elapsed(to: last.event)
    let slack = share(rateBound + 250, of: elapsed.upper) + rounding
    findings.expect(
      difference(to, from) * 1_000_000 / Int128(kHz),
      in: Interval(elapsed.lower - slack, elapsed.upper + slack), limit: elapsed.lower / 4,
      at: [set, first.event, last.event],
      "the time that the guest's TSC counts at the \(kHz) kHz asked for",
      why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings")
  }
}
