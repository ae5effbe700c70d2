internal import PVClock

// Xen's vcpu_time_info: a second clock record of a vCPU, which the host registers.

extension Rule {
  static let xen: [Rule] = [
    .xenTimeIsKvmclock, .xenFollowsSetClock, .xenNoStepBack, .xenVersion, .xenUnstableFlag,
  ]

  static let xenTimeIsKvmclock = Rule(
    "XEN-TIME-IS-KVMCLOCK",
    "A vCPU's Xen clock record gives at each TSC what its kvmclock record does, with the master clock and without it.",
    sources: [.xenRecord, .x86("kvm_guest_time_update(): one for all")],
    method:
      "The Xen record is looked at, the vCPU reads its kvmclock record, and the Xen record is looked at again. Both are "
      + "computed for the TSC of the reading. If both hold one pair they differ by what each is rounded, else by a new "
      + "pair's step besides.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), .observations(8, "readings beside a Xen record")], needs: [.xen]
  ) { timeline, findings in
    for (comparison, record, time) in timeline.xenReadings {
      let reading = comparison.reading
      guard let page = reading.page else { continue }
      let isOnePair =
        (page.tscTimestamp, page.systemTime) == (record.tscTimestamp, record.systemTime)
      let slack =
        isOnePair ? 2 : timeline.drift(until: reading) + timeline.rounding + reading.lead
      findings.expect(
        difference(time, reading.value), in: Interval(-slack, slack), at: comparison.events,
        "the Xen record's time less kvmclock, \(reading.value) ns, on vcpu\(reading.vcpu ?? 0)",
        why: isOnePair ? "both hold one pair" : "the Xen record: \(describe(record))")
      findings.cover(vcpu: reading.vcpu)
    }
  }

  static let xenFollowsSetClock = Rule(
    "XEN-FOLLOWS-SETCLOCK",
    "After KVM_SET_CLOCK each vCPU's Xen clock record goes on from the value that was set.",
    sources: [.xenRecord, .api("4.30 KVM_SET_CLOCK")],
    method: "Set the clock, let the vCPU enter, and compute its Xen record at its guest's TSC.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), .observations(4, "Xen records after KVM_SET_CLOCK")], needs: [.xen]
  ) { timeline, findings in
    for (comparison, _, time) in timeline.xenReadings {
      let reading = comparison.reading
      guard let setting = comparison.look.step.machine.setting, setting.record.flags == 0 else {
        continue
      }
      findings.expect(
        difference(time, setting.record.clock),
        in: timeline.allowedAdvance(since: setting.event, at: reading),
        limit: Timeline.widestUseful, at: [setting.event] + comparison.events,
        "the Xen record's time on vcpu\(reading.vcpu ?? 0) less the value set (\(setting.record.clock) ns)",
        why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
      findings.cover(vcpu: reading.vcpu)
    }
  }

  static let xenNoStepBack = Rule(
    "XEN-NO-STEP-BACK",
    "Between two KVM_SET_CLOCK the time of a vCPU's Xen clock record does not go back; without the master clock, or across a "
      + "new pair, by no more than kvmclock's may.",
    sources: [.xenRecord],
    method: "Compute the Xen record at every two TSCs in a row that its guest read.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), .observations(8, "pairs of times")], needs: [.xen]
  ) { timeline, findings in
    var last: [Int: (reading: Observation, time: UInt64)] = [:]
    for (comparison, _, time) in timeline.xenReadings {
      let reading = comparison.reading
      guard let vcpu = reading.vcpu else { continue }
      defer { last[vcpu] = (reading, time) }
      guard let (earlier, before) = last[vcpu], earlier.epoch == reading.epoch else { continue }
      let slack = timeline.allowedStepBack(from: earlier, to: reading)
      findings.expect(
        difference(time, before) >= -slack, at: [earlier.event] + comparison.events,
        "the Xen record's time on vcpu\(vcpu) at or above \(before) ns, what it was before"
          + (slack > 0 ? ", less \(nanoseconds(slack))" : ""),
        seen: "\(time) ns, a step of \(nanoseconds(difference(time, before)))")
      findings.cover(vcpu: vcpu)
    }
  }

  static let xenVersion = Rule(
    "XEN-VERSION",
    "The version of a Xen clock record is even while no vCPU is in the guest, and rises whenever the record changes.",
    sources: [
      .document("xen/include/public/xen.h, struct vcpu_time_info, version"),
      .x86("kvm_setup_guest_pvclock()"),
    ],
    method: "Look at the record before and after KVM_SET_CLOCK and changes between the MSRs.",
    scenarios: [.xen],
    coverage: [.count(2, "records that changed"), .observations(8, "Xen records")], needs: [.xen]
  ) { timeline, findings in
    for clocks in timeline.otherClocks {
      var last: [OtherClocks.Place: (record: ClockPage, event: Event)] = [:]
      for look in clocks.looks {
        guard case .xenRecord(let vcpu) = look.place, look.isCurrent,
          let record = ClockPage(bytes: look.bytes)
        else { continue }
        let event = look.step.event
        findings.expect(
          record.version % 2 == 0, at: [event], "an even version in vcpu\(vcpu)'s Xen record",
          seen: describe(record))
        if let (old, before) = last[look.place], old != record {
          findings.count("records that changed")
          findings.expect(
            Int32(bitPattern: record.version &- old.version) > 0, at: [before, event],
            "a version above \(old.version) in vcpu\(vcpu)'s Xen record, which changed",
            seen: describe(record))
        }
        last[look.place] = (record, event)
      }
    }
  }

  static let xenUnstableFlag = Rule(
    "XEN-UNSTABLE-FLAG",
    "KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE hides PVCLOCK_TSC_STABLE_BIT in the Xen clock records and nowhere else; without "
      + "it they have the bit where kvmclock's records have it.",
    sources: [.api("8.30 KVM_CAP_XEN_HVM, KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE")],
    method:
      "Set the flag, let each vCPU enter, look at its Xen record, and read its kvmclock record; clear it, and again.",
    scenarios: [.xen],
    coverage: [
      .each(["hidden", "shown"], "bit 0 of Xen records"), .everyVCPU(),
      .observations(8, "records"),
    ],
    needs: [.xen, .masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      let flags = machine.steps.compactMap { step -> (event: Event, isSet: Bool)? in
        if case .xenUnstableSet(let isSet) = step.event.action { (step.event, isSet) } else { nil }
      }
      var shown: [Int: Observation] = [:]
      for comparison in OtherClocks(machine).comparisons {
        guard case .xenRecord(let vcpu) = comparison.look.place,
          let record = ClockPage(bytes: comparison.look.bytes)
        else { continue }
        let reading = comparison.reading
        let flag = flags.last { $0.event.number < reading.event.number }
        let isHidden = flag?.isSet ?? false
        let events = (flag.map { [$0.event] } ?? []) + comparison.events
        findings.expect(
          record.flags.contains(.tscStable) == (reading.isStable && !isHidden), at: events,
          "bit 0 of vcpu\(vcpu)'s Xen record "
            + (isHidden ? "hidden" : "as in its kvmclock record"),
          seen: "flags \(Hex(UInt64(record.flags.rawValue))), kvmclock's "
            + (reading.isStable ? "has bit 0" : "has not"))
        if isHidden, let before = shown[vcpu], before.isStable,
          !timeline.mayHaveNewPair(from: before.event, to: reading.event), let page = reading.page
        {
          findings.expectStable(
            true, in: page, of: vcpu, at: events, why: "the flag is about Xen's records")
        }
        if !isHidden { shown[vcpu] = reading }
        guard reading.isStable else { continue }
        findings.cover(isHidden ? "hidden" : "shown", of: "bit 0 of Xen records")
        findings.cover(vcpu: vcpu)
      }
    }
  }
}

extension Source {
  fileprivate static let xenRecord = api(
    "4.128 KVM_XEN_VCPU_SET_ATTR, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO (\"an "
      + "additional pvclock structure\")")
}

extension Timeline {
  /// Every reading of a kvmclock record beside its vCPU's Xen record, with that one's time at the same TSC.
  fileprivate var xenReadings: [(OtherClocks.Comparison, record: ClockPage, time: UInt64)] {
    otherClocks.flatMap(\.comparisons).compactMap { comparison in
      guard case .xenRecord = comparison.look.place, let tsc = comparison.reading.guestTSC,
        let record = ClockPage(bytes: comparison.look.bytes)
      else { return nil }
      return (comparison, record, record.systemTime(atTSC: tsc))
    }
  }
}
