internal import ABIChecker
internal import PVClock

// Faults of what a development machine may lack. The histories of TSC writes were recorded on the model, for no Linux so far keeps all
// of their rules; those of a host that changes on Linux 6.12. Both with an emulated SVM.

extension Fault {
  static let tsc: [Fault] = [
    Fault(
      "LATE-VCPU-OFFSET", breaks: ["TSC-MATCHED-AT-CREATE"],
      "a vCPU that comes late has a TSC offset of its own",
      .recording(.tscMatching) { history in
        var isDone = false
        history.alter { action in
          guard case .tscOffset(2, let cycles) = action, !isDone else { return }
          isDone = true
          action = .tscOffset(vcpu: 2, cycles: cycles &+ 12_345)
        }
      }),
    Fault(
      "STABLE-IN-SPITE-OF-OFFSETS", breaks: ["STABLE-LOST-OFFSET-MISMATCH"],
      "the master clock does not ask whether the TSCs match: Linux before b48aa97e3820",
      .recording(.tscMatching) { history in
        history.alterPages { _, page in page.flags.insert(.tscStable) }
      }),
    Fault(
      "STABLE-NEVER-REGAINED", breaks: ["STABLE-REGAINED-OFFSET-MATCH"],
      "a vCPU whose offset follows the others' is not counted as one of them",
      .recording(.tscMatching) { history in
        var settings = 0
        history.alter { action in
          if case .setTSCOffset = action { settings += 1 }
          guard settings >= 2, case .page(let vcpu, let address, var page) = action else { return }
          page.flags.remove(.tscStable)
          action = .page(vcpu: vcpu, address: address, page: page)
        }
      }),
    Fault(
      "NO-LAG", breaks: ["STABLE-LAG"], "KVM_GET_CLOCK drops the flag at once",
      .recording(.tscMatching) { history in
        var isFresh = false
        history.alter { action in
          switch action {
          case .setTSCOffset: isFresh = true
          case .getClock(let record) where isFresh:
            isFresh = false
            action = .getClock(ClockRecord(clock: record.clock))
          default: break
          }
        }
      }),
    Fault(
      "OFFSET-STALE-RECORD", breaks: ["TSCOFFSET-CONTINUES"],
      also: ["TSC-HOSTWRITE-CONTINUES-TOGETHER", "TSC-HOSTWRITE-CONTINUES-NONMASTER"],
      because: "they are about the same setting, in other states",
      "the record stays as it was when the host sets the TSC offset",
      .recording(.tscOffset) { $0.keepRecords { event in event.isSettingOfOffset } }),
    Fault(
      "OFFSETS-STALE-RECORD-TOGETHER", breaks: ["TSC-HOSTWRITE-CONTINUES-TOGETHER"],
      "a vCPU that enters before the first one that was moved has the old record: Linux since c52ffadc65e2",
      .recording(.tscOffset) { history in
        // The pair that is set together is the only one in which vCPU 1 is set right after vCPU 0.
        var last: Event?
        var moved: Set<Int> = []
        for event in history.events {
          if case .setTSCOffset(1, _) = event.action, case .setTSCOffset(0, _)? = last?.action {
            moved.insert(event.number)
          }
          if case .tscOffset = event.action { continue }
          last = event
        }
        history.keepRecords { moved.contains($0.number) }
      }),
    Fault(
      "NONMASTER-STALE-RECORD", breaks: ["TSC-HOSTWRITE-CONTINUES-NONMASTER"],
      "without the master clock a move of the TSC makes no new record: all Linux so far",
      .recording(.tscOffset) { history in
        history.keepRecords(onlyUnstable: true) { $0.isSettingOfOffset }
      }),
    Fault(
      "HOSTWRITE-STALE-RECORD", breaks: ["TSC-HOSTWRITE-CONTINUES"],
      also: ["TSC-HOSTWRITE-CONTINUES-NONMASTER"],
      because: "it is about the same write, without the master clock",
      "the record stays as it was when the host writes IA32_TSC: Linux before 7f187922ddf6",
      .recording(.tscWrite) { history in
        history.keepRecords { event in
          if case .hostWroteMSR(_, Hex(MSR.tsc), _) = event.action { true } else { false }
        }
      }),
    Fault(
      "GUESTWRITE-STALE-RECORD", breaks: ["TSC-GUESTWRITE-CONTINUES"],
      "the record stays as it was when the guest writes IA32_TSC: Linux since 0c899c25d754",
      .recording(.tscWrite) { history in
        history.keepRecords { event in
          if case .wroteMSR(Hex(MSR.tsc), _, nil) = event.action { true } else { false }
        }
      }),
    Fault(
      "ADJUST-STALE-RECORD", breaks: ["TSCADJ-GUESTWRITE-CONTINUES"],
      "the record stays as it was when the guest writes IA32_TSC_ADJUST: Linux before d9130a2dfdd4",
      .recording(.tscAdjust) { history in
        history.keepRecords { event in
          if case .wroteMSR(Hex(MSR.tscAdjust), _, nil) = event.action { true } else { false }
        }
      }),
    Fault(
      "ADJUST-BY-HOST-LOST", breaks: ["TSCADJ-HOSTWRITE-NOMOVE"],
      "the host's write of IA32_TSC_ADJUST is lost",
      .recording(.tscAdjust) { history in
        history.alter { action in
          if case .hostReadMSR(let vcpu, Hex(MSR.tscAdjust), _) = action {
            action = .hostReadMSR(vcpu: vcpu, msr: Hex(MSR.tscAdjust), value: Hex(UInt64(3)))
          }
        }
      }),
    Fault(
      "KHZ-NOT-KEPT", breaks: ["TSCKHZ-ROUNDTRIP"],
      "KVM_GET_TSC_KHZ returns the host's frequency whatever was set",
      .recording(.tscFrequency) { history in
        let kHz = history.header.host.tscKHz ?? 0
        history.alter { action in
          if case .tscKHz(let vcpu, _) = action { action = .tscKHz(vcpu: vcpu, kHz: kHz) }
        }
      }),
    Fault(
      "KHZ-IN-MULTIPLIER", breaks: ["TSCKHZ-TOLERANCE-MUL"],
      also: ["SYSTIME-REWRITE-KEEPS-TIME", "CLOCK-BRACKET"],
      because: "a clock at another rate is soon elsewhere",
      "multiplier and shift are made for the frequency that was asked for, which the TSC does not have",
      .recording(.tscFrequency) { history in
        var scale: TSCScale?
        history.alter { action in
          switch action {
          case .vmCreated: scale = nil
          case .setTSCKHz(_, let kHz, nil): scale = TSCScale(tscKHz: kHz)
          case .read(let address, let ring, var reading, let settled):
            guard let scale else { return }
            reading.page.tscToSystemMultiplier = scale.multiplier
            reading.page.tscShift = scale.shift
            action = .read(address: address, ring: ring, reading: reading, settled: settled)
          default: break
          }
        }
      }),
    Fault(
      "KHZ-REFUSED-BUT-KEPT", breaks: ["TSCKHZ-FAIL-NOCHANGE"],
      "a frequency that was refused is what KVM_GET_TSC_KHZ returns: all Linux so far, as recorded",
      .kernel(.tscFrequency) { $0.forgetRefusedFrequencies() }),
    Fault(
      "KHZ-NOT-SPED-UP", breaks: ["TSCKHZ-UPSCALE"],
      "a TSC that was to run at twice the host's frequency does not: all Linux so far, as recorded",
      .kernel(.tscFrequency) { $0.speedUp() }),
    Fault(
      "KHZ-OF-VM-TOO-LATE", breaks: ["TSCKHZ-VM-SCOPE"],
      "the VM's frequency can be set after a vCPU was made: Linux before dcbe5a466c12",
      .recording(.tscFrequency, { $0.setFrequencyOfVM() }) { history in
        history.alter { action in
          if case .setTSCKHz(nil, let kHz, .some) = action {
            action = .setTSCKHz(vcpu: nil, kHz: kHz, error: nil)
          }
        }
      }),
  ]

  static let hostChanges: [Fault] = [
    Fault(
      "CLOCKSOURCE-UNNOTICED", breaks: ["STABLE-LOST-CLOCKSOURCE"],
      "a switch of the host's clocksource is not noticed: the flag stays",
      .recording(.clocksourceSwitch) { history in
        history.alterPages { _, page in page.flags.insert(.tscStable) }
      }),
    Fault(
      "CLOCKSOURCE-NEVER-BACK", breaks: ["STABLE-BACK-ON-TSC"],
      "when the clocksource is tsc again, KVM_SET_CLOCK does not bring the flag back",
      .recording(.clocksourceSwitch) { history in
        var switches = 0
        history.alter { action in
          if case .hostChanged("clocksource", _, _) = action { switches += 1 }
          guard switches == 2, case .page(let vcpu, let address, var page) = action else { return }
          page.flags.remove(.tscStable)
          action = .page(vcpu: vcpu, address: address, page: page)
        }
      }),
    Fault(
      "CLOCKSOURCE-STEP", breaks: ["CLOCKSOURCE-SWITCH-KEEPS-TIME"],
      "a switch of the clocksource takes a second off the clock",
      .recording(.clocksourceSwitch) { history in
        history.step(by: -1_000_000_000, after: { $0.isSwitch }, until: { $0.isSetting })
      }),
    Fault(
      "SETCLOCK-NONTSC-LOW", breaks: ["SETCLOCK-NONTSC"], also: ["CLOCKSOURCE-SWITCH-KEEPS-TIME"],
      because: "the clock jumps back at the next switch",
      "on another clocksource the value set is lowered by 1 s",
      .recording(.clocksourceSwitch) { history in
        history.step(by: -1_000_000_000, after: { $0.isSetting }, until: { $0.isSwitch })
      }),
    Fault(
      "BASE-SLEWED", breaks: ["RATE-NOT-NTP"],
      "NTP's slewing reaches the clock: Linux before 53fafdbb8b21",
      .recording(.slew) { history in
        let start = history.events.first?.began.raw ?? 0
        history.alterReadings { event, reading in
          reading.page.systemTime &+= (event.began.raw - start) / 2000
        }
      }),
    Fault(
      "SLEEP-NOT-COUNTED", breaks: ["RATE-BOOTTIME"],
      "the time that the host sleeps is not counted; 10 s of sleep were put into the recording",
      .recording(.suspend, { $0.sleep(seconds: 10, isCounted: true) }) { history in
        history.step(by: -10_000_000_000, after: { $0.isSuspend }, until: { _ in false })
      }),
    Fault(
      "SUSPEND-REFUSED", breaks: ["SUSPEND-NOT-REFUSED"],
      "a VM without kvmclock keeps the host from suspending",
      .recording(.suspend) { history in
        history.alter { action in
          if case .hostChanged("suspend", let value, _) = action {
            action = .hostChanged(what: "suspend", value: value, error: "Invalid argument")
          }
        }
      }),
    Fault(
      "SUSPEND-TELLS-NOBODY", breaks: ["SUSPEND-STOPPED-FLAG"],
      "a suspend sets no flag: Linux before 7d62874f69d7",
      .recording(.suspend) { history in
        history.alterPages { _, page in page.flags.remove(.guestStopped) }
      }),
    Fault(
      "SUSPEND-TELLS-ALL", breaks: ["SUSPEND-INACTIVE-NOFLAG"],
      "a suspend tells vCPUs that have no record: they find the flag in the next one",
      .recording(.suspend) { history in
        history.alterPages { _, page in page.flags.insert(.guestStopped) }
      }),
    Fault(
      "NO-PERIODIC-SYNC", breaks: ["PERIODIC-SYNC"],
      "records are never updated by themselves",
      .recording(.suspend, { $0.waitForUpdate() }) { history in
        let version = history.events.first?.page?.version ?? 0
        history.alterPages { _, page in page.version = version }
      }),
  ]
}
