internal import PVClock

extension Rule {
  static let clockIoctls: [Rule] = [
    .setclockSetsAllVCPUs, .getclockIsGuestView, .ioctlReturnsZero, .ioctlRefuses,
  ]

  static let setclockSetsAllVCPUs = Rule(
    "SETCLOCK-SETS-ALL-VCPUS",
    "KVM_SET_CLOCK sets one clock for the whole VM: every vCPU's next reading is the value given plus the time since, "
      + "for any 64-bit value, forward or backward, modulo 2^64.",
    sources: [.api("4.30 KVM_SET_CLOCK"), .commit("Linux 77fcbe823f00 (5.12)")],
    method:
      "Set 0, 1, 2^63, a value just below 2^64 and seeded values. Each vCPU reads its record. The reading less the value "
      + "is the time since the call, and the second vCPU is not behind the first.",
    scenarios: [.setClock], everywhere: true,
    coverage: [
      .observations(8, "readings after settings"),
      .count(4, "settings that two vCPUs read, one after the other"),
      .everyVCPU("vCPUs that read after a setting"), .different(4, "values set"),
      .each(["forward", "backward", "past 2^64"], "directions of settings"),
    ]
  ) { timeline, findings in
    // With a realtime the clock does not start at the value given.
    for setting in timeline.settings where !setting.record.hasRealtime {
      let value = setting.record.clock
      var first: Observation?
      for reading in setting.first where reading.vcpu != nil {
        guard findings.expectValue(value, since: setting.event, at: reading, in: timeline) else {
          continue
        }
        findings.cover(vcpu: reading.vcpu, of: "vCPUs that read after a setting")
        findings.cover("\(value)", of: "values set")
        if let before = setting.before?.value, before != value {
          findings.cover(before < value ? "forward" : "backward", of: "directions of settings")
        }
        if reading.value < value { findings.cover("past 2^64", of: "directions of settings") }
        if let first, first.event.ended.raw <= reading.event.began.raw {
          findings.expectNoStepBack(from: first, to: reading, in: timeline)
          findings.count("settings that two vCPUs read, one after the other")
        }
        first = first ?? reading
      }
    }
  }

  static let ioctlReturnsZero = Rule(
    "IOCTL-RETURNS-ZERO",
    "A request of the clock or of the TSC that succeeds and returns nothing else returns 0.",
    sources: [
      .api("4.29 KVM_GET_CLOCK (\"0 on success\")"),
      .api("4.30 KVM_SET_CLOCK"),
      .api("4.70 KVM_KVMCLOCK_CTRL"),
      .api("4.55 KVM_SET_TSC_KHZ"),
    ],
    method:
      "Make each request once on a vCPU with a record; KVM_SET_TSC_KHZ and those of KVM_VCPU_TSC_OFFSET where the host has "
      + "them.",
    scenarios: [.returnValues],
    coverage: [
      .observations(3, "requests"),
      .each(["KVM_GET_CLOCK", "KVM_SET_CLOCK", "KVM_KVMCLOCK_CTRL"], "requests by name"),
    ]
  ) { timeline, findings in
    for event in timeline.history.events {
      guard case .returned(let request, let result) = event.action else { continue }
      findings.cover(request, of: "requests by name")
      findings.expect(result == 0, at: [event], "0 from \(request)", seen: "\(result)")
    }
  }

  static let ioctlRefuses = Rule(
    "IOCTL-REFUSES",
    "A request of the clock or of KVM_VCPU_TSC_OFFSET whose argument lies in no memory fails with EFAULT, and one about an "
      + "attribute that does not exist with ENXIO.",
    sources: [.document("ioctl(2), EFAULT"), .api("4.80 KVM_SET_DEVICE_ATTR (ENXIO)")],
    method:
      "KVM_GET_CLOCK and KVM_SET_CLOCK with an address in the first page, which no process has; on hosts with "
      + "KVM_VCPU_TSC_OFFSET the same for its value, and requests about attribute 2^32 - 1.",
    scenarios: [.returnValues],
    coverage: [
      .observations(2, "requests that have to fail"),
      .each(["KVM_GET_CLOCK", "KVM_SET_CLOCK"], "requests by name"),
    ]
  ) { timeline, findings in
    for event in timeline.history.events {
      guard case .refused(let request, let misuse, let error) = event.action else { continue }
      let expected: Errno = misuse == .noMemory ? "EFAULT" : "ENXIO"
      findings.cover(request, of: "requests by name")
      findings.expect(
        error == expected, at: [event], "\(expected) from \(request): \(misuse.rawValue)",
        seen: error.map { "\($0)" } ?? "success")
    }
  }

  static let getclockIsGuestView = Rule(
    "GETCLOCK-IS-GUEST-VIEW",
    "In master-clock mode KVM_GET_CLOCK equals every vCPU's record evaluated at the returned host_tsc, to the nanosecond.",
    sources: [
      .api("4.29 KVM_GET_CLOCK (\"the exact kvmclock value seen by all VCPUs\")"),
      .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "Read the record before and after KVM_GET_CLOCK. If it is the same, evaluate it at host_tsc plus the vCPU's TSC offset.",
    scenarios: [.registration, .setClock, .rate], everywhere: true,
    coverage: [
      .observations(2, "results of KVM_GET_CLOCK, each against a record"),
      .everyVCPU("vCPUs whose record was evaluated"),
    ], needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: [Int: (step: Step, page: ClockPage)] = [:]
      var waiting: [Int: [(event: Event, record: ClockRecord)]] = [:]
      for step in machine.steps {
        switch step.event.action {
        case .getClock(let record):
          guard record.isTSCStable, record.hasHostTSC else {
            findings.lacks(
              "KVM_GET_CLOCK returned flags \(Hex(record.flags)): no master clock (2) or no host_tsc (8)"
            )
            continue
          }
          for vcpu in last.keys { waiting[vcpu, default: []].append((step.event, record)) }
        case .page(let vcpu, let address, let page) where step.after.record == address.value:
          let clocks = waiting.removeValue(forKey: vcpu) ?? []
          let before = last.updateValue((step, page), forKey: vcpu)
          guard let before, before.page == page, page.flags.contains(.tscStable),
            step.machine.epoch == before.step.machine.epoch, step.after.holdsNewestPair,
            timeline.isUnscaled(step.after), let offset = step.after.tscOffset
          else { continue }
          for (clock, record) in clocks {
            // Both are floor(cycles * mul / 2^32) of the same cycles since one pair, with one multiplier: the same
            // truncation, so not even 1 ns may be between them. See __get_kvmclock() and kvm_guest_time_update().
            let evaluated = page.systemTime(atTSC: record.hostTSC &+ offset)
            findings.expect(
              difference(record.clock, evaluated), in: Interval(0, 0),
              at: [before.step.event, clock, step.event],
              "KVM_GET_CLOCK less vcpu\(vcpu)'s record at host_tsc (\(evaluated) ns)",
              why: "both convert the same cycles with the same pair and multiplier")
            findings.cover(vcpu: vcpu, of: "vCPUs whose record was evaluated")
          }
        default: continue
        }
      }
    }
  }
}

extension Timeline {
  /// Whether the guest's TSC is the host's plus the offset noted: with TSC scaling it counts at another rate.
  func isUnscaled(_ vcpu: VCPUState) -> Bool {
    let kHz = vcpu.tscKHz
    return vcpu.isTSCOffsetCertain && !vcpu.isRetuned
      && (kHz == nil || kHz == history.header.host.tscKHz)
  }
}
