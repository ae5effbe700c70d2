internal import PVClock

// Xen's vcpu_time_info and vcpu_info: clock records of a vCPU that the host registers. Xen's shared_info, with a wall clock.

extension Rule {
  static let xen: [Rule] = [
    .xenTimeIsKvmclock, .xenFollowsSetClock, .xenNoStepBack, .xenVersion, .xenUnstableFlag,
    .xenNoGuestStopped, .xenWallValue, .xenHostAddress,
  ]

  private static let bothRecords = Coverage.each(
    OtherClocks.XenRecord.allCases.map(\.rawValue), "Xen records")

  static let xenTimeIsKvmclock = Rule(
    "XEN-TIME-IS-KVMCLOCK",
    "A vCPU's Xen clock records, vcpu_time_info and the one in vcpu_info, give at each TSC what its kvmclock record does, with "
      + "the master clock and without it.",
    sources: [.xenRecord, .x86("kvm_guest_time_update(): one for all")],
    method:
      "A Xen record is looked at, the vCPU reads its kvmclock record, and the Xen record is looked at again. Both are "
      + "computed for the TSC of the reading. If both hold one pair they differ by what each is rounded, else by a new "
      + "pair's step besides.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), bothRecords, .observations(8, "readings beside a Xen record")],
    needs: [.xen]
  ) { timeline, findings in
    for place in findings.expectXenTimeIsKvmclock(in: timeline) { findings.cover(place) }
  }

  static let xenFollowsSetClock = Rule(
    "XEN-FOLLOWS-SETCLOCK",
    "After KVM_SET_CLOCK each vCPU's Xen clock records go on from the value that was set.",
    sources: [.xenRecord, .api("4.30 KVM_SET_CLOCK")],
    method: "Set the clock, let the vCPU enter, and compute its Xen records at its guest's TSC.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), bothRecords, .observations(4, "Xen records after KVM_SET_CLOCK")],
    needs: [.xen]
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
        "the time of \(comparison.look.place) less the value set (\(setting.record.clock) ns)",
        why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
      findings.cover(comparison.look.place)
    }
  }

  static let xenNoStepBack = Rule(
    "XEN-NO-STEP-BACK",
    "Between two KVM_SET_CLOCK the time of a Xen clock record does not go back; without the master clock, or across a "
      + "new pair, by no more than kvmclock's may.",
    sources: [.xenRecord],
    method: "Compute the Xen record at every two TSCs in a row that its guest read.",
    scenarios: [.xen],
    coverage: [.everyVCPU(), bothRecords, .observations(8, "pairs of times")], needs: [.xen]
  ) { timeline, findings in
    var last: [OtherClocks.Place: (reading: Observation, time: UInt64)] = [:]
    for (comparison, _, time) in timeline.xenReadings {
      let (reading, place) = (comparison.reading, comparison.look.place)
      defer { last[place] = (reading, time) }
      guard let (earlier, before) = last[place], earlier.epoch == reading.epoch else { continue }
      let slack = timeline.allowedStepBack(from: earlier, to: reading)
      findings.expectNoStepBack(
        of: "the time of \(place)", from: before, to: time, slack: slack,
        at: [earlier.event] + comparison.events)
      findings.cover(place)
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
    coverage: [
      .count(2, "records that changed"), bothRecords, .observations(8, "looks at Xen records"),
    ],
    needs: [.xen]
  ) { timeline, findings in
    for clocks in timeline.otherClocks {
      var last: [OtherClocks.Place: (record: ClockPage, event: Event)] = [:]
      for look in clocks.looks {
        guard case .xenRecord = look.place, look.isCurrent,
          let record = ClockPage(bytes: look.bytes)
        else { continue }
        let event = look.step.event
        findings.expect(
          record.version % 2 == 0, at: [event], "an even version in \(look.place)",
          seen: describe(record))
        findings.cover(look.place)
        if let (old, before) = last[look.place], old != record {
          findings.count("records that changed")
          findings.expect(
            Int32(bitPattern: record.version &- old.version) > 0, at: [before, event],
            "a version above \(old.version) in \(look.place), which changed",
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
      "Set the flag, let each vCPU enter, look at its Xen records, and read its kvmclock record; clear it, and again.",
    scenarios: [.xen],
    coverage: [
      .each(["hidden", "shown"], "bit 0 of Xen records"), .everyVCPU(), bothRecords,
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
        guard case .xenRecord(let vcpu, _) = comparison.look.place,
          let record = ClockPage(bytes: comparison.look.bytes)
        else { continue }
        let reading = comparison.reading
        let flag = flags.last { $0.event.number < reading.event.number }
        let isHidden = flag?.isSet ?? false
        let events = (flag.map { [$0.event] } ?? []) + comparison.events
        findings.expect(
          record.flags.contains(.tscStable) == (reading.isStable && !isHidden), at: events,
          "bit 0 of \(comparison.look.place) "
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
        findings.cover(comparison.look.place)
      }
    }
  }

  static let xenNoGuestStopped = Rule(
    "XEN-NO-GUEST-STOPPED",
    "KVM_KVMCLOCK_CTRL sets PVCLOCK_GUEST_STOPPED in the vCPU's kvmclock record and in none of its Xen clock records.",
    sources: [
      .commit(
        "Linux, \"KVM: x86: Set PVCLOCK_GUEST_STOPPED only for kvmclock, not for Xen PV clock\""),
      .api("4.70 KVM_KVMCLOCK_CTRL"),
    ],
    method:
      "Tell each vCPU that it was stopped, let it enter, look at its Xen records, and read its kvmclock record.",
    scenarios: [.xen],
    coverage: [
      .everyVCPU(), bothRecords, .observations(4, "Xen records of a vCPU that was told"),
    ],
    needs: [.xen]
  ) { timeline, findings in
    for clocks in timeline.otherClocks {
      for comparison in clocks.comparisons {
        guard case .xenRecord = comparison.look.place,
          comparison.reading.page?.flags.contains(.guestStopped) == true,
          let record = ClockPage(bytes: comparison.look.bytes)
        else { continue }
        findings.expect(
          !record.flags.contains(.guestStopped), at: comparison.events,
          "bit 1 clear in \(comparison.look.place); it is set in the kvmclock record",
          seen: describe(record))
        findings.cover(comparison.look.place)
      }
    }
  }

  static let xenWallValue = Rule(
    "XEN-WALL-VALUE",
    "KVM_XEN_HVM_SET_ATTR of shared_info leaves CLOCK_REALTIME less kvmclock, both at the ioctl, in its wall clock, where 64-bit "
      + "guests look for it or where 32-bit ones do, with an even version.",
    sources: [
      .api("4.126 KVM_XEN_HVM_SET_ATTR, KVM_XEN_ATTR_TYPE_SHARED_INFO"),
      .document("xen/include/public/xen.h, struct shared_info, wc_version to wc_sec_hi"),
      .x86("kvm_get_wall_clock_epoch(); arch/x86/kvm/xen.c, kvm_xen_shared_info_init()"),
    ],
    method:
      "The page is filled with 0xa5 and set; CLOCK_REALTIME is read before and after, kvmclock by the vCPU's next reading. With "
      + "the master clock and without it.",
    scenarios: [.xen],
    coverage: [.observations(4, "wall clocks"), .each(["64-bit", "32-bit"], "layouts")],
    needs: [.xen]
  ) { timeline, findings in
    for layout in findings.expectXenWallClocks(in: timeline) {
      findings.cover(layout, of: "layouts")
    }
  }

  static let xenHostAddress = Rule(
    "XEN-HOST-ADDRESS",
    "Where KVM_CAP_XEN_HVM offers KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA, a vCPU's vcpu_info and the VM's shared_info can be "
      + "registered by an address of user space, and hold the clocks that they hold when they are registered by a guest's "
      + "address: kvmclock, and CLOCK_REALTIME less kvmclock.",
    sources: [
      .api(
        "4.126 KVM_XEN_HVM_SET_ATTR, KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA; 4.128 KVM_XEN_VCPU_SET_ATTR, "
          + "KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA")
    ],
    method:
      "Register each vCPU's vcpu_info at one place and then at another, in the same page and in another one, and compare it with "
      + "the vCPU's kvmclock record; register shared_info in both layouts, and compare its wall clock with CLOCK_REALTIME.",
    scenarios: [.xenHostAddress],
    coverage: [
      .everyVCPU(), .each(["64-bit", "32-bit"], "layouts"),
      .observations(6, "clocks at an address of user space"),
    ],
    needs: [.xen]
  ) { timeline, findings in
    for step in timeline.steps {
      guard case .returned(let request, let result) = step.event.action else { continue }
      findings.expect(
        false, at: [step.event], "\(request) to take an address of user space",
        seen: result < 0 ? "errno \(-Int64(result))" : "it returned \(result)")
    }
    for case .xenRecord(let vcpu, _) in findings.expectXenTimeIsKvmclock(in: timeline) {
      findings.cover(vcpu: vcpu)
    }
    for layout in findings.expectXenWallClocks(in: timeline) {
      findings.cover(layout, of: "layouts")
    }
  }
}

extension Findings {
  /// Where a Xen record and its vCPU's kvmclock record were compared.
  fileprivate mutating func expectXenTimeIsKvmclock(
    in timeline: Timeline
  ) -> [OtherClocks.Place] {
    timeline.xenReadings.compactMap { comparison, record, time in
      let reading = comparison.reading
      guard let page = reading.page else { return nil }
      let isOnePair =
        (page.tscTimestamp, page.systemTime) == (record.tscTimestamp, record.systemTime)
      let slack =
        isOnePair ? 2 : timeline.drift(until: reading) + timeline.rounding + reading.lead
      expect(
        difference(time, reading.value), in: Interval(-slack, slack), at: comparison.events,
        "the time of \(comparison.look.place) less kvmclock, \(reading.value) ns,",
        why: isOnePair ? "both hold one pair" : "the Xen record: \(describe(record))")
      return comparison.look.place
    }
  }

  /// The layouts of the wall clocks that were compared.
  fileprivate mutating func expectXenWallClocks(in timeline: Timeline) -> [String] {
    var layouts: [String] = []
    let spans = timeline.realtimeSpans
    for machine in timeline.machines {
      var set: (step: Step, wall: XenWallClock.Place)?
      for step in machine.steps {
        switch step.event.action {
        case .xenSharedInfoSet(let address, let is64Bit):
          set = (step, XenWallClock.Place(sharedInfo: address.value, is64Bit: is64Bit))
        case .memory(let address, let bytes):
          guard let (setting, place) = set, address.value == place.address,
            let record = XenWallClock(bytes.bytes, place),
            let epoch = timeline.epoch(of: setting, spans), epoch.allowed.lower >= 0
          else { continue }
          set = nil
          // Only what is wrong counts here: a wall clock is one observation.
          if record.version % 2 == 1 {
            expect(
              false, at: [setting.event, step.event],
              "an even version of shared_info's wall clock", seen: "version \(record.version)")
          }
          if record.nanoseconds >= 1_000_000_000 {
            expect(
              false, at: [setting.event, step.event],
              "nsec of shared_info's wall clock below 10^9", seen: "\(record.nanoseconds)")
          }
          let isCounted = expect(
            record.epoch, in: epoch.allowed, limit: Timeline.widestUseful,
            at: epoch.events + [step.event],
            "sec * 10^9 + nsec of the wall clock of a \(place.layout) shared_info",
            why: "CLOCK_REALTIME less kvmclock, at KVM_XEN_HVM_SET_ATTR")
          if isCounted { layouts.append(place.layout) }
        default: continue
        }
      }
    }
    return layouts
  }
}

/// The wall clock in Xen's shared_info.
private struct XenWallClock {
  /// Where it is.
  struct Place {
    let sharedInfo: UInt64
    let is64Bit: Bool

    var address: UInt64 { sharedInfo &+ (is64Bit ? 0xc00 : 0x900) }
    /// Offset of the upper half of the seconds from the version.
    var upperSeconds: Int { is64Bit ? 0x0c : 0x24 }
    var layout: String { is64Bit ? "64-bit" : "32-bit" }
  }

  let version: UInt32
  let nanoseconds: UInt32
  /// Nanoseconds from 1970 to the instant at which kvmclock was 0.
  let epoch: Int128

  init?(_ bytes: [UInt8], _ place: Place) {
    guard bytes.count >= place.upperSeconds + 4,
      let low = WallClock(bytes: bytes[..<WallClock.size])
    else { return nil }
    let upper = bytes[place.upperSeconds..<place.upperSeconds + 4].reversed().reduce(0) {
      $0 << 8 | Int128($1)
    }
    version = low.version
    nanoseconds = low.nanoseconds
    epoch = (upper << 32 + Int128(low.seconds)) * 1_000_000_000 + Int128(low.nanoseconds)
  }
}

extension OtherClocks.Place: CustomStringConvertible {
  var description: String {
    switch self {
    case .referencePage: "Hyper-V's reference TSC page"
    case .xenRecord(let vcpu, let record): "vcpu\(vcpu)'s \(record.rawValue)"
    }
  }
}

extension Findings {
  /// A Xen record of a vCPU.
  fileprivate mutating func cover(_ place: OtherClocks.Place) {
    guard case .xenRecord(let vcpu, let record) = place else { return }
    cover(vcpu: vcpu)
    cover(record.rawValue, of: "Xen records")
  }
}

extension Source {
  fileprivate static let xenRecord = api(
    "4.128 KVM_XEN_VCPU_SET_ATTR, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO (\"an "
      + "additional pvclock structure\") and KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO")
}

extension Timeline {
  /// Every reading of a kvmclock record beside a Xen record of its vCPU, with that one's time at the same TSC.
  fileprivate var xenReadings: [(OtherClocks.Comparison, record: ClockPage, time: UInt64)] {
    otherClocks.flatMap(\.comparisons).compactMap { comparison in
      guard case .xenRecord = comparison.look.place, let tsc = comparison.reading.guestTSC,
        let record = ClockPage(bytes: comparison.look.bytes)
      else { return nil }
      return (comparison, record, record.systemTime(atTSC: tsc))
    }
  }
}
