internal import PVClock

extension Rule {
  static let setclockExact = Rule(
    "SETCLOCK-EXACT",
    "In master-clock mode KVM_SET_CLOCK ties the value given to one moment within the call: on every vCPU the next "
      + "record's system_time is the value, and its tsc_timestamp less the vCPU's TSC offset is the host's TSC during the "
      + "call.",
    sources: [.commit("Linux 77fcbe823f00 (5.12)")],
    method:
      "Set the ends of the 64-bit range, values that wrap soon and seeded values. Each vCPU reads its record.",
    scenarios: [.setClockExact, .setClock],
    coverage: [
      .observations(16, "facts of records after settings"),
      .everyVCPU("vCPUs whose system_time was compared"),
      .everyVCPU("vCPUs whose tsc_timestamp was compared"),
    ], needs: [.masterClock]
  ) { timeline, findings in
    for setting in timeline.settings where !setting.record.hasRealtime {
      for reading in setting.first {
        guard let page = reading.page, let vcpu = reading.vcpu,
          !timeline.mayHaveNewPair(from: setting.event, to: reading.event)
        else { continue }
        guard reading.isStable else {
          findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
          continue
        }
        let value = setting.record.clock
        let above = difference(page.systemTime, value)
        findings.expect(
          above, in: Interval(0, 0), at: [setting.event, reading.event],
          "vcpu\(vcpu)'s system_time less the value set (\(value) ns)",
          why: "the value is the clock at the moment of tsc_timestamp",
          // Before 5.12 the value is the clock's at a moment after tsc_timestamp, both within the call.
          fits: above < 0 && -above <= setting.event.width + timeline.rounding)
        findings.cover(vcpu: vcpu, of: "vCPUs whose system_time was compared")
        findings.expectValue(value, since: setting.event, at: reading, in: timeline)
        guard let offset = reading.tscOffset else { continue }
        let (began, ended) = (setting.event.began.tsc, setting.event.ended.tsc)
        let taken = page.tscTimestamp &- offset
        findings.expect(
          taken &- began <= ended &- began, at: [setting.event, reading.event],
          "vcpu\(vcpu)'s tsc_timestamp less its TSC offset in [\(began), \(ended)], the host's TSC before and after "
            + "KVM_SET_CLOCK",
          seen: "\(taken), \(Int128(taken) - Int128(began)) cycles after the first")
        findings.cover(vcpu: vcpu, of: "vCPUs whose tsc_timestamp was compared")
      }
    }
  }

  static let setclockNonMaster = Rule(
    "SETCLOCK-NONMASTER",
    "Outside master-clock mode KVM_SET_CLOCK sets the clock as well: KVM_GET_CLOCK and every vCPU's reading go on from the "
      + "value given, for any 64-bit value.",
    sources: [.api("4.30 KVM_SET_CLOCK"), .x86("kvm_vm_ioctl_set_clock()")],
    method:
      "The boot vCPU on the old MSR, or a clocksource other than the TSC. Set the ends of the range and seeded values; then "
      + "KVM_GET_CLOCK, and each vCPU reads.",
    scenarios: [.getClockNoMaster],
    coverage: [
      .observations(12, "first values after settings without the master clock"),
      .everyVCPU("vCPUs that read after a setting"), .count(4, "first results of KVM_GET_CLOCK"),
      .different(4, "values set"),
    ]
  ) { timeline, findings in
    for setting in timeline.settings where !setting.record.hasRealtime {
      let value = setting.record.clock
      for first in setting.first where !first.isStable {
        guard findings.expectValue(value, since: setting.event, at: first, in: timeline) else {
          continue
        }
        findings.cover("\(value)", of: "values set")
        findings.cover(vcpu: first.vcpu, of: "vCPUs that read after a setting")
        if first.vcpu == nil { findings.count("first results of KVM_GET_CLOCK") }
      }
    }
  }

  static let setclockFlags = Rule(
    "SETCLOCK-FLAGS",
    "KVM_SET_CLOCK takes the flags that KVM_GET_CLOCK can return, refuses every other flag with EINVAL, and then leaves "
      + "the clock alone. A kernel whose KVM_GET_CLOCK has no realtime refuses all flags.",
    sources: [
      .api("4.30 KVM_SET_CLOCK (\"flags returned by KVM_GET_CLOCK are accepted\")"),
      .x86("kvm_vm_ioctl_set_clock(), KVM_CLOCK_VALID_FLAGS"),
    ],
    method:
      "Each of the 32 bits alone, and seeded combinations; a value of the clock before and after each call.",
    scenarios: [.setClockFlags],
    coverage: [
      .observations(60, "answers and what they did to the clock"),
      .different(32, "flags set alone"),
      .count(16, "refused calls between two values of the clock"),
    ]
  ) { timeline, findings in
    guard let capability = timeline.clockFlagsCapability else {
      return findings.lacks("KVM_CAP_ADJUST_CLOCK was not read")
    }
    let known: UInt32 = capability > 1 && capability & 4 != 0 ? UInt32(capability) & 0xe : 0
    for machine in timeline.machines {
      var last: Observation?
      var refused: [Event] = []
      for step in machine.steps {
        let event = step.event
        switch event.action {
        case .setClock(let record):
          findings.cover(flagAlone: record.flags)
          findings.expect(
            record.flags & ~known == 0, at: [event],
            "EINVAL for flags \(Hex(record.flags)): KVM_CAP_ADJUST_CLOCK is \(capability)",
            seen: "the call succeeded")
        case .setClockRefused(let record, let error):
          findings.cover(flagAlone: record.flags)
          findings.expect(
            record.flags & ~known != 0 && error == .invalidArgument, at: [event],
            record.flags & ~known == 0
              ? "success for flags \(Hex(record.flags)): KVM_CAP_ADJUST_CLOCK is \(capability)"
              : "EINVAL for flags \(Hex(record.flags))", seen: error.description)
          refused.append(event)
        default: break
        }
        for value in step.observations {
          if let last, last.epoch == value.epoch {
            for call in refused {
              let counts = findings.expectAdvance(
                from: last, to: value, over: [call], in: timeline,
                why:
                  "a refused call leaves the clock alone, and CLOCK_MONOTONIC_RAW counted so much")
              if counts { findings.count("refused calls between two values of the clock") }
            }
          }
          (last, refused) = (value, [])
        }
      }
    }
  }

  static let setclockOtherFlagsIgnored = Rule(
    "SETCLOCK-OTHERFLAGS-IGNORED",
    "KVM_SET_CLOCK ignores KVM_CLOCK_TSC_STABLE, KVM_CLOCK_HOST_TSC with any host_tsc, and realtime without its flag: "
      + "every vCPU's reading goes on from the value given.",
    sources: [
      .api("4.30 KVM_SET_CLOCK (\"accepted but ignored\")"),
      .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "Set seeded values with the two flags, alone and together, with a seeded host_tsc and a realtime; each vCPU reads.",
    scenarios: [.setClockFlags],
    coverage: [
      .observations(12, "first values after settings"),
      .each(["0x0", "0x2", "0x8", "0xa"], "flags with a host_tsc and a realtime"),
      .everyVCPU("vCPUs that read after a setting"),
    ], needs: [.clockDetails]
  ) { timeline, findings in
    for event in timeline.history.events {
      if case .setClockRefused(let record, let error) = event.action, record.flags == 8 {
        findings.lacks("KVM_SET_CLOCK refuses KVM_CLOCK_HOST_TSC: \(error)")
      }
    }
    for setting in timeline.settings {
      let record = setting.record
      guard record.flags & ~0xa == 0, record.realtime != 0, record.hostTSC != 0 else { continue }
      for first in setting.first {
        let counts = findings.expectValue(
          record.clock, since: setting.event, at: first, in: timeline,
          why:
            "flags \(Hex(record.flags)), host_tsc \(record.hostTSC) and realtime \(record.realtime) are ignored, and "
            + "CLOCK_MONOTONIC_RAW counted so much since KVM_SET_CLOCK")
        guard counts else { continue }
        findings.cover(
          "\(Hex(record.flags))", of: "flags with a host_tsc and a realtime")
        findings.cover(vcpu: first.vcpu, of: "vCPUs that read after a setting")
      }
    }
  }
}

extension Findings {
  fileprivate mutating func cover(flagAlone flags: UInt32) {
    if flags.nonzeroBitCount == 1 { cover("\(Hex(flags))", of: "flags set alone") }
  }
}
