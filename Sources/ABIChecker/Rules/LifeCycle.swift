internal import PVClock

// Section I of the catalogue, and what concerns a guest's mode and its own offset.

extension Rule {
  static let lifeCycle: [Rule] = [.replugVCPU0KeepsTime, .schedoffNoUnderflow, .modeIndependent]

  static let replugVCPU0KeepsTime = Rule(
    "REPLUG-VCPU0-KEEPS-TIME",
    "When vCPU 0 is taken out and comes back, its registration finds the clock where it would have been.",
    source: "Linux b7e60c5aedd2 (4.2) broke it; arch/x86/kvm/x86.c, kvmclock_reset()",
    method:
      "vCPU 1 sends INIT to vCPU 0; and again by the host, which clears the MSR and resets the registers. vCPU 0 "
      + "registers once more and reads.",
    scenarios: [.replug],
    faults: ["the restart of Linux 4.2", "… only at INIT", "… only where the host clears the MSR"]
  ) { timeline in
    timeline.keepsTime(
      across: "re-plugs of vCPU 0", atLeast: timeline.lacking == nil ? 2 : 1,
      why: "the time that CLOCK_MONOTONIC_RAW counted; the clock belongs to the VM, not to vCPU 0"
    ) { event in
      guard case .replugged(0, _) = event.action else { return nil }
      return 0
    }
  }

  static let schedoffNoUnderflow = Rule(
    "SCHEDOFF-NO-UNDERFLOW",
    "A guest may count from zero by itself: the first reading of vCPU 0, taken off every later reading on a vCPU that "
      + "registers later, never gives a negative number.",
    source:
      "arch/x86/kernel/kvmclock.c, kvm_sched_clock_init() (4.3); discussion of Linux b7e60c5aedd2",
    method:
      "vCPU 0 reads first; vCPU 1, created before or after that, registers and reads; with the master clock and "
      + "without.",
    scenarios: [.scheduleOffset], faults: ["vCPU 1's record 10 ms behind"]
  ) { timeline in
    var findings = Findings()
    var first: Observation?
    var compared: Set<Int> = []
    for reading in timeline.observations {
      guard let vcpu = reading.vcpu else { continue }
      if first?.epoch != reading.epoch { (first, compared) = (nil, []) }
      if vcpu == 0 {
        first = first ?? reading
      } else if let first, compared.insert(vcpu).inserted {
        let step = difference(reading.value, first.value)
        let allowed = timeline.allowedAdvance(from: first, to: reading)
        let least = first.isStable ? max(0, allowed.lower) : allowed.lower
        findings.expect(
          step, in: Interval(least, allowed.upper), limit: Timeline.widestUseful,
          at: [first.event, reading.event],
          "vcpu\(vcpu)'s first reading less vcpu0's (\(first.value) ns)",
          why: first.isStable
            ? "0 or more, and the time between the two: one clock serves both"
            : "without the master clock vcpu0's record may run ahead by up to \(nanoseconds(first.lead))"
        )
      }
    }
    return findings.outcome(atLeast: 2, "later vCPUs", in: timeline)
  }

  static let modeIndependent = Rule(
    "MODE-INDEPENDENT",
    "The ABI is the same in real mode, 32-bit protected mode and long mode, ring 0 and ring 3: the same write, the same "
      + "record at the same guest-physical address, one clock through all of them.",
    source: "Documentation/virt/kvm/x86/msr.rst (\"physical address\"); no mode is named anywhere",
    method:
      "One vCPU goes through the modes; in each it registers and reads; the readings are on one line with "
      + "CLOCK_MONOTONIC_RAW.",
    scenarios: [.modes],
    faults: [
      "only long-mode guests are served", "a restart on a write in real mode, or in protected mode",
    ]
  ) { timeline in
    var findings = Findings()
    var mode: CPUMode?
    var modes: Set<String> = []
    var last: Observation?
    var continued = 0
    var next = 0
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .booted(_, _, let booted): mode = booted
      case .wroteMSR(let msr, let value, let fault):
        findings.expect(
          fault == nil, at: [event], "no fault in \(mode?.rawValue ?? "?") mode",
          seen: "exception vector \(fault?.vector ?? 0) from WRMSR \(msr), \(value)")
      case .read(_, let ring, let reading, let settled):
        guard let mode else { continue }
        modes.insert("\(mode) ring \(ring)")
        findings.expect(
          settled && reading.page.scale.isNormalized, at: [event],
          "a valid record in \(mode) mode, ring \(ring)", seen: describe(reading.page))
      default: break
      }
      while next < timeline.observations.count, timeline.observations[next].index == index {
        let reading = timeline.observations[next]
        next += 1
        guard reading.vcpu != nil else { continue }
        if let last, last.epoch == reading.epoch {
          let narrow = findings.observed
          findings.expect(
            difference(reading.value, last.value),
            in: timeline.allowedAdvance(from: last, to: reading),
            limit: Timeline.widestUseful, at: [last.event, reading.event],
            "the clock in \(mode?.rawValue ?? "?") mode to go on from \(last.value) ns by an amount",
            why: "the time that CLOCK_MONOTONIC_RAW counted since the reading in the mode before")
          continued += findings.observed - narrow
        }
        last = reading
      }
    }
    let wanted: Set = ["real ring 0", "protected ring 0", "long ring 0", "long ring 3"]
    guard modes.isSuperset(of: wanted) || !findings.violations.isEmpty else {
      return .notTested(reason: timeline.lacking ?? "read only in \(modes.sorted())")
    }
    guard continued >= 3 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "three readings on one line with the one in the mode before", in: timeline)
    }
    return findings.outcome(atLeast: 8, "writes and readings in four modes", in: timeline)
  }
}
