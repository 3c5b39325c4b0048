-- Health of ClerkInstance and ClerkSync, from their conditions. Drift under policy Report is no illness: Ready stays True.
local health = {status = "Progressing", message = "no operator has looked at it yet"}
local status = obj.status

if status == nil or status.conditions == nil then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end

-- what the operator has not seen yet, it cannot have judged
if (status.observedGeneration or -1) < (obj.metadata.generation or 0) then
  health.message = "the spec changed; the operator has not seen it yet"
  return health
end

if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is set"}
end

local stalled = found["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.reason .. ": " .. stalled.message}
end

local ready = found["Ready"]
if ready == nil or ready.status == "Unknown" then
  if ready ~= nil then
    health.message = ready.message
  end
  return health
end

if ready.status == "True" then
  return {status = "Healthy", message = ready.message}
end
return {status = "Degraded", message = ready.reason .. ": " .. ready.message}
