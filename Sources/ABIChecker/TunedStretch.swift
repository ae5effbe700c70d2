internal import PVClock

/// A vCPU from an accepted `KVM_SET_TSC_KHZ`, its own or its VM's before it was made, to the next one.
struct TunedStretch {
  let vcpu: Int
  let kHz: UInt32
  let set: Event
  let isOfVM: Bool
  /// The frequency that was accepted for it before; nil if there was none.
  let follows: UInt32?
  /// Whether the vCPU had a record already.
  let hadRecord: Bool
  /// What its machine did meanwhile.
  var steps: [Step] = []
}

extension Timeline {
  /// Every vCPU at every frequency that was accepted for it.
  var tunedStretches: [TunedStretch] { machines.flatMap(\.tunedStretches) }

  /// Why no guest's TSC is scaled here; nil if the host says that it scales.
  var lackOfScaling: String? {
    guard let value = capability("KVM_CAP_TSC_CONTROL") else {
      return lacking ?? "KVM_CAP_TSC_CONTROL was not asked for"
    }
    return value > 0 ? nil : "this host does not scale the TSC: KVM_CAP_TSC_CONTROL is \(value)"
  }

  /// At how many kHz the guest's TSC counted in the stretch, since it was moved last; nil where no two readings tell.
  func measuredRate(of stretch: TunedStretch) -> Interval? {
    var first: Observation?
    var last: Observation?
    for step in stretch.steps {
      if TSCMoves.vcpu(movedBy: step.event) == stretch.vcpu { (first, last) = (nil, nil) }
      for reading in step.observations where reading.vcpu == stretch.vcpu && reading.tsc != nil {
        first = first ?? reading
        last = reading
      }
    }
    guard let first, let last, let from = first.tsc, let to = last.tsc else { return nil }
    let elapsed = first.event.elapsed(to: last.event)
    let slack = share(rateBound, of: elapsed.upper) + rounding
    guard elapsed.lower > slack else { return nil }
    let cycles = difference(to, from) * 1_000_000
    return Interval(
      cycles / (elapsed.upper + slack) - 1, cycles / (elapsed.lower - slack) + 1)
  }

  /// Whether the guest's TSC was seen to count at the frequency asked for, and not at the host's.
  func isScaled(_ stretch: TunedStretch) -> Bool {
    guard lackOfScaling == nil, let host = history.header.host.tscKHz,
      let rate = measuredRate(of: stretch)
    else { return false }
    return rate.contains(Int128(stretch.kHz)) && !rate.contains(Int128(host))
  }
}

extension Timeline {
  /// Records are made for whole kHz: by so much, in parts per billion, the clock of a vCPU whose TSC frequency was set may be
  /// off besides.
  static func wholeKilohertz(in history: History) -> Int128 {
    let slowest = history.events.compactMap { event -> UInt32? in
      if case .setTSCKHz(_, let kHz, nil) = event.action, kHz > 0 { kHz } else { nil }
    }.min()
    return slowest.map { whole / Int128($0) + 2 } ?? 0
  }
}

extension MachineRun {
  fileprivate var tunedStretches: [TunedStretch] {
    var stretches: [TunedStretch] = []
    var open: [Int: Int] = [:]
    var ofVM: (event: Event, kHz: UInt32)?
    func begin(_ vcpu: Int, _ kHz: UInt32, _ set: Event, isOfVM: Bool, _ before: VCPUState) {
      let follows = open.updateValue(stretches.count, forKey: vcpu).map { stretches[$0].kHz }
      stretches.append(
        TunedStretch(
          vcpu: vcpu, kHz: kHz, set: set, isOfVM: isOfVM, follows: follows,
          hadRecord: before.record != nil))
    }
    for step in steps {
      switch step.event.action {
      case .setTSCKHz(nil, let kHz, nil): ofVM = (step.event, kHz)
      case .vcpuCreated(let vcpu):
        open[vcpu] = nil
        if let ofVM { begin(vcpu, ofVM.kHz, ofVM.event, isOfVM: true, step.before) }
      case .setTSCKHz(let vcpu?, let kHz, let error):
        if error == nil {
          begin(vcpu, kHz, step.event, isOfVM: false, step.before)
        } else {
          open[vcpu] = nil
        }
      default:
        for index in open.values { stretches[index].steps.append(step) }
      }
    }
    return stretches
  }
}
