internal import PVClock

// Pages of guest memory that are still elsewhere, as in a post-copy migration.

extension Rule {
  static let postCopy: [Rule] = [.postcopyRecordWritten]

  static let postcopyRecordWritten = Rule(
    "POSTCOPY-RECORD-WRITTEN",
    "A record whose page is missing until user space supplies it, as in a post-copy migration, is written as soon as the page is "
      + "there: the vCPU waits, the version goes on from the page that was supplied, bit 1 of KVM_KVMCLOCK_CTRL is not lost, and the "
      + "guest reads the clock that was set.",
    sources: [
      .document("Documentation/admin-guide/mm/userfaultfd.rst (\"post-copy live migration\")"),
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, field version"),
      .guest("QEMU's post-copy migration, and VMMs that load a snapshot's memory as it is used"),
    ],
    method:
      "Take a record's page away with fallocate(2) and watch it with userfaultfd(2); give KVM a reason for an update: KVM_SET_CLOCK, "
      + "KVM_KVMCLOCK_CTRL, the guest's WRMSR, KVM_SET_MSRS; enter. A millisecond after the first access the page is supplied as it was. "
      + "Look at the record, and read.",
    scenarios: [.postCopy],
    coverage: [
      .each(
        ["KVM_SET_CLOCK", "KVM_KVMCLOCK_CTRL", "WRMSR", "KVM_SET_MSRS"], "reasons for an update"),
      .everyVCPU("vCPUs that waited for a page"), .count(4, "readings of a clock that was set"),
      .observations(16, "records whose page was missing"),
    ], needs: [.missingPages, .clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      var walk = MissingWalk()
      for step in machine.steps { walk.take(step, &findings, timeline) }
    }
  }
}

/// Follows records over the time in which their pages are missing.
private struct MissingWalk {
  private struct Missing {
    let event: Event
    let before: (event: Event, page: ClockPage)
    let place: Place
    var reason: String?
    var isTold = false
    var hasEntered = false
    var supplied: Event?
  }

  private var looks: [Int: (event: Event, page: ClockPage)] = [:]
  private var missing: [Int: Missing] = [:]

  mutating func take(_ step: Step, _ findings: inout Findings, _ timeline: Timeline) {
    follow(step)
    switch step.event.action {
    case .pagesMissing(let memory):
      for (vcpu, look) in looks {
        guard let record = step.machine.records[vcpu]?.record,
          let place = step.machine.memory.place(of: record, count: 32)?.place,
          place.memory == memory
        else { continue }
        missing[vcpu] = Missing(event: step.event, before: look, place: place)
      }
    case .pageSupplied(let memory, let page):
      for (vcpu, place) in missing.mapValues(\.place)
      where place.memory == memory && place.offset / 4096 == Int128(page) {
        if missing[vcpu]?.supplied == nil { missing[vcpu]?.supplied = step.event }
      }
    case .page(let vcpu, let address, let page) where step.after.record == address.value:
      if let waited = missing.removeValue(forKey: vcpu), waited.hasEntered,
        let reason = waited.reason
      {
        judge(page, on: vcpu, waited, reason, step, &findings)
      }
      looks[vcpu] = (step.event, page)
    default: break
    }
    for reading in step.observations {
      guard let vcpu = reading.vcpu, looks[vcpu] != nil, let setting = step.machine.setting,
        !setting.record.hasRealtime
      else { continue }
      let counts = findings.expectValue(
        setting.record.clock, since: setting.event, at: reading, in: timeline)
      if counts { findings.count("readings of a clock that was set") }
    }
  }

  private mutating func follow(_ step: Step) {
    let reason: String? =
      switch step.event.action {
      case .setClock: "KVM_SET_CLOCK"
      case .toldStopped(_, .none): "KVM_KVMCLOCK_CTRL"
      default: step.systemTimeWrite.map { $0.isByHost ? "KVM_SET_MSRS" : "WRMSR" }
      }
    for vcpu in missing.keys where reason == "KVM_SET_CLOCK" || step.vcpu == vcpu {
      if missing[vcpu]?.reason == nil { missing[vcpu]?.reason = reason }
      if reason == "KVM_KVMCLOCK_CTRL" { missing[vcpu]?.isTold = true }
      if step.isEntry, step.vcpu == vcpu, missing[vcpu]?.reason != nil {
        missing[vcpu]?.hasEntered = true
      }
    }
  }

  private func judge(
    _ page: ClockPage, on vcpu: Int, _ waited: Missing, _ reason: String, _ step: Step,
    _ findings: inout Findings
  ) {
    let events = [waited.before.event, waited.event, waited.supplied ?? waited.event, step.event]
    let old = waited.before.page.version
    let change = Int32(bitPattern: page.version &- old)
    findings.expect(
      change > 0 && page.version % 2 == 0, at: events,
      "an even version above \(old) in vcpu\(vcpu)'s record, whose page was missing when \(reason) made it due",
      seen: describe(page))
    let wasSet = waited.before.page.flags.contains(.guestStopped)
    findings.expect(
      page.flags.contains(.guestStopped) == (wasSet || waited.isTold), at: events,
      "bit 1 \(wasSet || waited.isTold ? "set" : "clear") in vcpu\(vcpu)'s record: "
        + (waited.isTold
          ? "its guest was told while the page was missing" : "as in the page that was supplied"),
      seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
    guard waited.supplied != nil else {
      return findings.lacks("nothing waited for the page of vcpu\(vcpu)'s record")
    }
    findings.cover(reason, of: "reasons for an update")
    findings.cover(vcpu: vcpu, of: "vCPUs that waited for a page")
  }
}
