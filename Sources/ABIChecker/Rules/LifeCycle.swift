internal import PVClock

// A vCPU that comes back, a guest that counts from zero, and a guest's modes.

extension Rule {
  static let lifeCycle: [Rule] = [
    .replugVCPU0KeepsTime, .schedoffNoUnderflow, .modeIndependent, .vmNotKilled,
  ]

  static let vmNotKilled = Rule(
    "VM-NOT-KILLED",
    "KVM kills no VM for what a guest or a VMM does with the clock: no request fails with EIO.",
    sources: [
      .api("4.10 KVM_RUN (its errors; EIO is not among them)"),
      .implementation("include/linux/kvm_host.h, KVM_BUG_ON(): KVM found a fault of its own"),
    ],
    method:
      "Look how each request of each scenario ends, but for KVM_GET_TSC_KHZ, whose EIO means a TSC that is not stable.",
    scenarios: [.registration, .freeze], everywhere: true,
    coverage: [.observations(8, "entries of vCPUs that came back")]
  ) { timeline, findings in
    for event in timeline.history.events {
      switch (event.action, event.actor) {
      case (.killed(let request), _):
        findings.expect(
          false, at: [event], "a VM that goes on",
          seen: "EIO from \(request): KVM has killed the VM")
      case (_, .vcpu): findings.expect(true, at: [event], "", seen: "")
      default: continue
      }
    }
  }

  static let replugVCPU0KeepsTime = Rule(
    "REPLUG-VCPU0-KEEPS-TIME",
    "When vCPU 0 is reset, by INIT or by user space, and registers again, the clock carries on.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW"), .commit("Linux b7e60c5aedd2 (4.2), which broke it"),
    ],
    method:
      "vCPU 1 sends INIT to vCPU 0; later the host clears the MSR and resets the registers. vCPU 0 registers again and "
      + "reads. INIT needs an in-kernel irqchip.",
    scenarios: [.replug],
    coverage: [
      .each(["by INIT", "by user space"], "resets of vCPU 0"),
      .observations(1, "registrations after a reset of vCPU 0"),
    ]
  ) { timeline, findings in
    let resets = timeline.readings { step in
      if case .replugged(0, _) = step.event.action { 0 } else { nil }
    }
    for (before, reset, after) in resets {
      let isUseful = findings.expectAdvance(
        from: before, to: after, over: [reset], in: timeline,
        why: "the time that CLOCK_MONOTONIC_RAW counted; the clock belongs to the VM, not to vCPU 0"
      )
      if isUseful, case .replugged(_, let how) = reset.action {
        findings.cover(how.isINIT ? "by INIT" : "by user space", of: "resets of vCPU 0")
      }
    }
    findings.excuse("by INIT", of: "resets of vCPU 0", in: timeline)
  }

  static let schedoffNoUnderflow = Rule(
    "SCHEDOFF-NO-UNDERFLOW",
    "A guest may subtract vCPU 0's first reading from every later reading, on any vCPU: the result is the time since and "
      + "never negative. Without the master clock, or after a new pair, it may be lower by as much as that record ran "
      + "ahead.",
    sources: [
      .guest("Linux 4.3 and newer: arch/x86/kernel/kvmclock.c, kvm_sched_clock_init()"),
      .guest("the discussion of Linux b7e60c5aedd2 (4.2)"),
    ],
    method:
      "vCPU 0 reads first; vCPU 1, created before or after that, registers and reads; then both read again; with the "
      + "master clock and without.",
    scenarios: [.scheduleOffset],
    coverage: [.different(2, "later vCPUs"), .observations(2, "later readings")]
  ) { timeline, findings in
    for machine in timeline.machines {
      var first: Observation?
      for reading in machine.steps.lazy.flatMap(\.observations) {
        guard let vcpu = reading.vcpu else { continue }
        if let first, first.epoch == reading.epoch {
          let (time, back) = (
            timeline.allowedAdvance(from: first, to: reading),
            timeline.allowedStepBack(from: first, to: reading)
          )
          let isUseful = findings.expect(
            difference(reading.value, first.value),
            in: Interval(max(-back, time.lower), time.upper), limit: Timeline.widestUseful,
            at: [first.event, reading.event],
            "\(reading.name) less vcpu0's first one (\(first.value) ns)",
            why: "the time between the two, as one clock serves both"
              + (back == 0 ? "" : "; vcpu0's record may run ahead by \(nanoseconds(back))"))
          if isUseful, vcpu != 0 {
            findings.cover("vcpu\(vcpu) of machine \(machine.number)", of: "later vCPUs")
          }
        } else {
          first = vcpu == 0 ? reading : nil
        }
      }
    }
  }

  static let modeIndependent = Rule(
    "MODE-INDEPENDENT",
    "The ABI is the same in real mode, 32-bit protected mode and long mode, ring 0 and ring 3: a registration raises no "
      + "exception, the record is valid, and one clock runs through all of them.",
    sources: [
      .document(
        "Documentation/virt/kvm/x86/msr.rst: it says \"physical address\" and names no mode")
    ],
    method:
      "One vCPU goes through the modes; in each it registers and reads; compare the readings with "
      + "CLOCK_MONOTONIC_RAW.",
    scenarios: [.modes],
    coverage: [
      .each(["real ring 0", "protected ring 0", "long ring 0", "long ring 3"], "modes"),
      .count(3, "readings that continue one in another mode"),
      .observations(8, "registrations and readings"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var modes: [Int: CPUMode] = [:]
      var last: [Int: (reading: Observation, mode: String)] = [:]
      for step in machine.steps {
        if case .booted(let vcpu, _, let mode) = step.event.action { modes[vcpu] = mode }
        guard let vcpu = step.vcpu, let mode = modes[vcpu]?.rawValue else { continue }
        switch step.event.action {
        case .wroteMSR(let msr, let value, let fault) where MSR.isSystemTime(msr):
          findings.expect(
            fault == nil, at: [step.event], "no fault in \(mode) mode",
            seen: "exception vector \(fault?.vector ?? 0) from WRMSR \(msr), \(value)")
        case .read(_, let ring, let reading, let settled):
          findings.expect(
            settled && reading.page.scale.isNormalized, at: [step.event],
            "a valid record in \(mode) mode, ring \(ring)", seen: describe(reading.page))
          findings.cover("\(mode) ring \(ring)", of: "modes")
          guard let seen = step.observations.last else { continue }
          if let before = last[vcpu], before.reading.epoch == seen.epoch {
            let isUseful = findings.expectAdvance(
              from: before.reading, to: seen, in: timeline,
              why:
                "the time that CLOCK_MONOTONIC_RAW counted between \(before.mode) and \(mode) ring \(ring)"
            )
            if isUseful, before.mode != "\(mode) ring \(ring)" {
              findings.count("readings that continue one in another mode")
            }
          }
          last[vcpu] = (seen, "\(mode) ring \(ring)")
        default: continue
        }
      }
    }
  }
}

extension Findings {
  /// Where the host lacks INIT the rule is judged without it, and the evidence says so.
  mutating func excuse(_ seen: String, of what: String, in timeline: Timeline) {
    guard let lacking = timeline.lacking, covered[what]?.contains(seen) != true else { return }
    cover(seen, of: what)
    detail = "none \(seen): \(lacking)"
  }
}
