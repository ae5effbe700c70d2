internal import ABIChecker

/// What a decoder throws, as a sentence for the person whose file it is.
enum DecodingProblem {
  static func sentence(_ error: any Error) -> String {
    switch error as? DecodingError {
    case .keyNotFound(let key, let context):
      "\(place(context.codingPath))\"\(key.stringValue)\" is missing"
    case .typeMismatch(let type, let context) where type == Action.self:
      "\(place(context.codingPath))not an action that this kvmclock knows"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      "\(place(context.codingPath))\(context.debugDescription)"
    // The decoder says only "not valid JSON" here, whichever of the three it is.
    case .dataCorrupted(let context) where context.codingPath.isEmpty:
      "not valid JSON, or a number out of its range, or nested too deep"
    case .dataCorrupted(let context):
      "\(place(context.codingPath))\(context.debugDescription)"
    default: "\(error)"
    }
  }

  private static func place(_ path: [any CodingKey]) -> String {
    path.isEmpty ? "" : "at \(path.map(\.stringValue).joined(separator: ".")): "
  }
}
