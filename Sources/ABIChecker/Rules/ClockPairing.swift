internal import PVClock

// KVM_HC_CLOCK_PAIRING: CLOCK_REALTIME and the guest's TSC at one instant, for the guest.

extension Rule {
  static let clockPairing: [Rule] = [
    .pairingFields, .pairingOneInstant, .pairingRefused, .pairingWithoutTSC,
  ]

  static let pairingFields = Rule(
    "PAIRING-FIELDS",
    "While the host's clocksource is the TSC, KVM_HC_CLOCK_PAIRING returns 0; tsc is the guest's TSC during the hypercall, "
      + "nsec is below 10^9, and flags is 0.",
    sources: [
      .clockPairing,
      .guest("drivers/ptp/ptp_kvm_x86.c makes it for KVM's PTP clock, which chrony reads"),
    ],
    method:
      "A guest makes the hypercall in ring 0, by VMCALL or VMMCALL. The host's TSC before and after, moved by the vCPU's TSC "
      + "offset, brackets tsc.",
    scenarios: [.clockPairing],
    coverage: [.everyVCPU(), .observations(32, "facts of pairings")],
    needs: [.hypercalls]
  ) { timeline, findings in
    for step in timeline.steps {
      guard let call = step.pairing, call.clock == 0 else { continue }
      guard timeline.isTSC else {
        findings.lacks("the clocksource is not tsc")
        continue
      }
      findings.expect(
        call.result == 0, at: [step.event], "0 returned by KVM_HC_CLOCK_PAIRING",
        seen: "\(call.result)")
      guard let pairing = call.pairing else { continue }
      findings.expect(
        pairing.flags == 0 && (0..<1_000_000_000).contains(pairing.nanoseconds), at: [step.event],
        "flags 0 and nsec in [0, 999999999]",
        seen: "flags \(Hex(pairing.flags)), nsec \(pairing.nanoseconds)")
      guard let offset = step.knownTSCOffset else {
        findings.lacks("the vCPU's TSC offset is not known")
        continue
      }
      let tsc = pairing.tsc &- offset
      findings.expect(
        step.event.began.tsc <= tsc && tsc <= step.event.ended.tsc, at: [step.event],
        "tsc less the vCPU's TSC offset in [\(step.event.began.tsc), \(step.event.ended.tsc)], the host's TSC before and "
          + "after", seen: "\(tsc)")
      findings.cover(vcpu: step.vcpu)
    }
  }

  static let pairingOneInstant = Rule(
    "PAIRING-ONE-INSTANT",
    "What KVM_HC_CLOCK_PAIRING gives is of one instant: sec and nsec are CLOCK_REALTIME when the guest's TSC was tsc.",
    sources: [.clockPairing],
    method:
      "Convert tsc to CLOCK_MONOTONIC_RAW by readings of both side by side, and to CLOCK_REALTIME by readings of that before "
      + "and after the hypercall: some ten nanoseconds wide, as for GETCLOCK-ONE-INSTANT.",
    scenarios: [.clockPairing],
    coverage: [.everyVCPU(), .observations(16, "pairings")],
    needs: [.hypercalls]
  ) { timeline, findings in
    let spans = timeline.realtimeSpans
    for step in timeline.steps {
      guard let call = step.pairing, call.clock == 0 else { continue }
      guard timeline.isTSC, let offset = step.knownTSCOffset else {
        findings.lacks("the clocksource is not tsc, or the vCPU's TSC offset is not known")
        continue
      }
      guard let pairing = call.pairing,
        findings.expectRealtime(
          pairing.realtime, atTSC: pairing.tsc &- offset, by: spans, in: timeline, at: step.index,
          "sec and nsec of KVM_HC_CLOCK_PAIRING with tsc \(pairing.tsc)")
      else { continue }
      findings.cover(vcpu: step.vcpu)
    }
  }

  static let pairingRefused = Rule(
    "PAIRING-REFUSED",
    "KVM_HC_CLOCK_PAIRING for another clock than KVM_CLOCK_PAIRING_WALLCLOCK (0) returns -KVM_EOPNOTSUPP (-95) and writes "
      + "nothing.",
    sources: [.clockPairing],
    method: "A guest asks for clocks 1, 2, 2^31 and 2^32 - 1; the host looks at the 64 bytes.",
    scenarios: [.clockPairing],
    coverage: [.different(4, "clocks"), .observations(4, "refusals")], needs: [.hypercalls]
  ) { timeline, findings in
    for step in timeline.steps {
      guard let call = step.pairing, call.clock != 0 else { continue }
      findings.cover("\(call.clock)", of: "clocks")
      findings.expectRefused(call, at: [step.event], "for clock \(call.clock)")
    }
  }

  static let pairingWithoutTSC = Rule(
    "PAIRING-WITHOUT-TSC",
    "While the host's clocksource is not the TSC, KVM_HC_CLOCK_PAIRING returns -KVM_EOPNOTSUPP (-95) and writes nothing.",
    sources: [.clockPairing],
    method:
      "Switch the host's clocksource from tsc to another one, make the hypercall, and switch back.",
    scenarios: [.clockPairingWithoutTSC],
    coverage: [.observations(4, "hypercalls without a TSC clocksource")],
    needs: [.hypercalls, .hostChange]
  ) { timeline, findings in
    for step in timeline.steps {
      guard let call = step.pairing, call.clock == 0,
        let (name, change) = timeline.clocksource(before: step.index),
        name != "tsc", name != "hyperv_clocksource_tsc_page"
      else { continue }
      findings.expectRefused(
        call, at: (change.map { [$0] } ?? []) + [step.event], "while the clocksource is \(name)")
    }
  }
}

extension Source {
  fileprivate static let clockPairing = document(
    "Documentation/virt/kvm/x86/hypercalls.rst, 6. KVM_HC_CLOCK_PAIRING")
}

/// One hypercall, and what it left in memory.
private struct PairingCall {
  /// The first 28 bytes of `struct kvm_clock_pairing`.
  struct Pairing {
    let seconds, nanoseconds: Int64
    let tsc: UInt64
    let flags: UInt32

    var realtime: Int128 { Int128(seconds) * 1_000_000_000 + Int128(nanoseconds) }
  }

  let clock: UInt32
  let result: Int64
  let bytes: [UInt8]

  var isUntouched: Bool { bytes.allSatisfy { $0 == 0xa5 } }

  /// What a call for CLOCK_REALTIME that succeeded gave.
  var pairing: Pairing? {
    guard clock == 0, result == 0, bytes.count >= 28 else { return nil }
    func word(_ at: Int) -> UInt64 {
      bytes[at..<at + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    return Pairing(
      seconds: Int64(bitPattern: word(0)), nanoseconds: Int64(bitPattern: word(8)), tsc: word(16),
      flags: UInt32(truncatingIfNeeded: word(20) >> 32))
  }
}

extension Step {
  /// The hypercall that the guest made in this event; nil also where KVM does not know it.
  fileprivate var pairing: PairingCall? {
    guard case .paired(_, let clock, let result, let bytes) = event.action else { return nil }
    return PairingCall(clock: clock, result: result, bytes: bytes.bytes)
  }

  fileprivate var knownTSCOffset: UInt64? { after.isTSCOffsetCertain ? after.tscOffset : nil }
}

extension Findings {
  fileprivate mutating func expectRefused(_ call: PairingCall, at events: [Event], _ when: String) {
    expect(
      call.result == -95 && call.isUntouched, at: events,
      "-95 returned by KVM_HC_CLOCK_PAIRING \(when), and memory as it was",
      seen: "\(call.result), memory \(call.isUntouched ? "as it was" : "written")")
  }
}

extension Timeline {
  /// The host's clocksource, and the switch to it.
  fileprivate func clocksource(before index: Int) -> (name: String, change: Event?)? {
    for event in history.events[..<index].reversed() {
      if case .hostChanged("clocksource", let name, nil) = event.action { return (name, event) }
    }
    return history.header.host.clocksource.map { ($0, nil) }
  }
}
