-- wrk's requests: a PUT for each token of a file in turn.
-- Arguments: the file, the place of the first token, how many of them, the path, the body's file.

local requests = {}
local next_one = 0

function init(arguments)
    local first, count = tonumber(arguments[2]), tonumber(arguments[3])
    local body = assert(io.open(arguments[5])):read("*a")
    local place = 0
    for token in io.lines(arguments[1]) do
        place = place + 1
        if place > first and #requests < count then
            local headers = {
                ["Authorization"] = "Bearer " .. token,
                ["Content-Type"] = "application/json",
                ["Accept"] = "application/json",
            }
            requests[#requests + 1] = wrk.format("PUT", arguments[4], headers, body)
        end
    end
end

function request()
    next_one = next_one % #requests + 1
    return requests[next_one]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        "RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)
    ))
end
