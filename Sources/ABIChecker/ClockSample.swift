public import PVClock

/// A value of the clock that was seen, with what pictures need to know of it.
public struct ClockSample: Hashable, Sendable {
  public var event: Event
  /// kvmclock in nanoseconds, modulo 2^64.
  public var value: UInt64
  /// The vCPU whose record was read; nil for `KVM_GET_CLOCK`.
  public var vcpu: Int?
  /// The record that the value was computed from; nil for `KVM_GET_CLOCK`.
  public var page: ClockPage?
  /// The TSC that the value belongs to: the guest's own, or the host's for `KVM_GET_CLOCK`, where it says so.
  public var tsc: UInt64?
  public var isStable: Bool
  /// Counts the machines and the settings of their clock.
  public var epoch: Int
}

/// A look at a clock record.
public struct RecordLook: Hashable, Sendable {
  public var event: Event
  public var vcpu: Int
  public var page: ClockPage
}

extension Timeline {
  /// Every value of the clock that was seen, in order.
  public var samples: [ClockSample] {
    var last = -1
    return observations.map { observation in
      defer { last = observation.index }
      return ClockSample(
        event: observation.event, value: observation.value, vcpu: observation.vcpu,
        page: observation.page,
        tsc: tsc(of: observation.event, isSecond: observation.index == last),
        isStable: observation.isStable, epoch: observation.epoch)
    }
  }

  /// Every look at a record whose version had come to rest, in order.
  public var looks: [RecordLook] {
    pages.map { RecordLook(event: $0.event, vcpu: $0.vcpu, page: $0.page) }
  }

  /// Whether a vCPU's TSC was moved: then it does not tell the host's.
  public var movesTSC: Bool {
    machines.contains { $0.steps.last?.machine.mayBeUnmatched ?? false }
  }

  private func tsc(of event: Event, isSecond: Bool) -> UInt64? {
    switch event.action {
    case .read(_, _, let reading, _): reading.tsc
    case .looped(_, let result): isSecond ? result.last.tsc : result.first.tsc
    case .raced(_, _, let result): isSecond ? result.last.tsc : result.first.tsc
    case .getClock(let record) where record.hasHostTSC: record.hostTSC
    default: nil
    }
  }
}
